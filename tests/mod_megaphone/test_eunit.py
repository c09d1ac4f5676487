"""Runs the EUnit modules beside this file, each in an Erlang VM of its own."""

import os
import subprocess
from pathlib import Path

import pytest

from bridge.resources import mod_megaphone_source
from tests.support.tools import require_ejabberd, require_tool

HERE = Path(__file__).parent
MODULES = sorted(path.stem for path in HERE.glob("*_tests.erl"))
#: Seconds for one module, the VM's start included.
TIMEOUT = 100


def erlang_environment() -> dict[str, str]:
    """The environment in which ejabberd's own modules and headers are found."""
    return {**os.environ, "ERL_LIBS": require_ejabberd().libraries}


@pytest.fixture(scope="module")
def ebin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package and its tests, compiled without a warning."""
    out = tmp_path_factory.mktemp("ebin")
    sources = [*sorted(mod_megaphone_source().glob("src/*.erl")), *sorted(HERE.glob("*.erl"))]
    built = subprocess.run(
        [require_tool("escript"), HERE / "build.escript", out, *sources],
        env=erlang_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return out


@pytest.mark.parametrize("module", MODULES)
def test_eunit(module: str, ebin: Path, tmp_path: Path) -> None:
    run = subprocess.run(
        [
            require_tool("erl"),
            *("-noshell", "-noinput", "-pa", str(ebin)),
            *("-eval", f"halt(case eunit:test({module}) of ok -> 0; _ -> 1 end)."),
        ],
        env={**erlang_environment(), "MEGAPHONE_TESTS": str(HERE)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=TIMEOUT,
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-5_000:]
    assert "There were no tests to run" not in run.stdout
