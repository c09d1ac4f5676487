"""Import direction, and the parts that must not know of I/O."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

#: What each package must not import: `bridge` -> `metrics` -> `erlang_port`, never back.
FORBIDDEN = {
    "erlang_port": {"metrics", "bridge"},
    "metrics": {"bridge"},
}

#: Bytes in, values out: no event loop, no sockets, no processes, no files.
SANS_IO = ("erlang_port/etf", "erlang_port/frames.py", "erlang_port/protocol.py")
IO_MODULES = {"asyncio", "io", "multiprocessing", "os", "pathlib", "select", "selectors", "signal"}
IO_MODULES |= {"socket", "ssl", "subprocess", "threading"}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_imports_go_one_way(root, package):
    modules = sorted((root / package).rglob("*.py"))
    assert modules
    for module in modules:
        assert not FORBIDDEN[package].intersection(imported(module)), module


@pytest.mark.parametrize("place", SANS_IO)
def test_the_core_of_the_port_knows_of_no_io(root, place):
    path = root / place
    modules = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    assert modules
    for module in modules:
        assert not IO_MODULES.intersection(imported(module)), module


def test_the_core_of_the_port_brings_no_event_loop():
    program = (
        "import sys, erlang_port.etf, erlang_port.frames, erlang_port.protocol\n"
        "sys.exit('asyncio' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
