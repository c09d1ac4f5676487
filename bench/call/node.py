"""A private node with one program at its port."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from bridge.embedded_node import EmbeddedNode, NodeSettings
from bridge.resources import mod_megaphone_source

if TYPE_CHECKING:
    from types import TracebackType

HERE: Final = Path(__file__).resolve().parent

#: Seconds until the server answers, and for one measure.
START_TIMEOUT: Final = 30.0
MEASURE_TIMEOUT: Final = 300.0

_COMPILE: Final = """
{{ok, Name, Binary}} = compile:file({path}, [binary, report_errors]),
{{module, Name}} = code:load_binary(Name, {path}, Binary),
ok
"""


class CallNode:
    """A running node; a context manager, nothing of it is left afterwards.

    Args:
        program: what is given to mod_megaphone as `python`.
        server: the name that answers.
        settings: the text of the port program's configuration.
    """

    def __init__(self, program: Path, server: str, settings: str = "") -> None:
        self.server = server
        self._program = program
        self._directory = tempfile.TemporaryDirectory(prefix="megaphone-bench-")
        home = Path(self._directory.name)
        (home / "megaphone.toml").write_text(settings)
        self.node = EmbeddedNode(
            home / "node",
            NodeSettings(
                options={"loglevel": "warning"},
                environment={
                    "MEGAPHONE_HTTP__PORT": "0",
                    "MEGAPHONE_CONFIG": str(home / "megaphone.toml"),
                },
            ),
        )

    def __enter__(self) -> Self:
        try:
            self.node.start()
            sources = self.node.directory / "modules/sources/mod_megaphone"
            shutil.copytree(mod_megaphone_source(), sources)
            (sources / "conf/mod_megaphone.yml").write_text(
                f"modules:\n  mod_megaphone:\n    python: {json.dumps(str(self._program))}\n"
            )
            self.node.ctl("module_install", "mod_megaphone")
            path = json.dumps(str(HERE / "megaphone_call_bench.erl"))
            self.node.eval(_COMPILE.format(path=path), timeout=60)
            deadline = time.monotonic() + START_TIMEOUT
            while self.node.eval(f"whereis({self.server})") == "undefined":
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{self.server} is not there: {self.node.log()[-2000:]}")
                time.sleep(0.05)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def one(self, count: int, server: str | None = None) -> float:
        """One caller at a time: the median in microseconds."""
        return self._measure(f"one({server or self.server}, {count})")

    def many(self, callers: int, count: int, server: str | None = None) -> float:
        """Many callers at once: calls a second."""
        return self._measure(f"many({server or self.server}, {callers}, {count})")

    def start_erlport(self, home: Path) -> str:
        """Starts erlport's Python; the Erlang text of what is called."""
        compiled = Path(self._directory.name) / "erlport"
        (compiled / "ebin").mkdir(parents=True)
        (compiled / "priv").symlink_to(home / "priv")
        subprocess.run(
            ["erlc", "-o", compiled / "ebin", *sorted((home / "src").glob("*.erl"))],
            check=True,
            capture_output=True,
        )
        paths = ", ".join(json.dumps(str(path)) for path in (HERE, HERE.parents[1]))
        started = (
            f"begin P = megaphone_call_bench:erlport({json.dumps(str(compiled))},"
            f" {json.dumps(sys.executable)}, [{paths}]),"
            " persistent_term:put(megaphone_call_bench, P), ok end"
        )
        # It is linked to who starts it, and erl_call's process ends.
        answer = self.node.eval(
            f"begin S = self(), spawn(fun() -> {started}, S ! started,"
            " receive stop -> ok end end), receive started -> ok after 10000 -> late end end",
            timeout=20,
        )
        if answer != "ok":
            raise RuntimeError(f"erlport does not start: {answer}")
        return "persistent_term:get(megaphone_call_bench)"

    def _measure(self, call: str) -> float:
        return float(self.node.eval(f"megaphone_call_bench:{call}", timeout=MEASURE_TIMEOUT))

    def _end(self) -> None:
        try:
            self.node.stop()
        finally:
            self._directory.cleanup()


def echo_in_c(directory: Path) -> Path:
    """Compiles echo.c; its path.

    Raises:
        FileNotFoundError: There is no C compiler.
        subprocess.CalledProcessError: It does not compile.
    """
    program = directory / "echo_c"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-O2", "-o", program, HERE / "echo.c"], check=True)
    return program


def echo_in_python(directory: Path) -> Path:
    """A program that runs echo.py with this Python; its path."""
    program = directory / "echo_python"
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -I '{HERE / 'echo.py'}'\n")
    program.chmod(0o755)
    return program
