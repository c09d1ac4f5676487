"""A private node with one program at its port."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from bench.node import BenchNode
from bridge.embedded_node import NodeSettings
from bridge.resources import mod_megaphone_source

HERE: Final = Path(__file__).resolve().parent

#: Seconds until the server answers, and for one measure.
START_TIMEOUT: Final = 30.0
MEASURE_TIMEOUT: Final = 300.0

_CONFIGURATION: Final = "megaphone.toml"


class CallNode(BenchNode):
    """A running node; a context manager, nothing of it is left afterwards.

    Args:
        program: what is given to mod_megaphone as `python`.
        server: the name that answers.
        configuration: the text of the port program's configuration.
    """

    def __init__(self, program: Path, server: str, configuration: str = "") -> None:
        self.server = server
        self._program = program
        super().__init__()
        (self.home / _CONFIGURATION).write_text(configuration)

    def settings(self) -> NodeSettings:
        """See `BenchNode.settings`."""
        return NodeSettings(
            options={"loglevel": "warning"},
            environment={
                "MEGAPHONE_HTTP__PORT": "0",
                "MEGAPHONE_CONFIG": str(self.home / _CONFIGURATION),
            },
        )

    def prepare(self) -> None:
        """See `BenchNode.prepare`."""
        sources = self.node.directory / "modules/sources/mod_megaphone"
        shutil.copytree(mod_megaphone_source(), sources)
        (sources / "conf/mod_megaphone.yml").write_text(
            f"modules:\n  mod_megaphone:\n    python: {json.dumps(str(self._program))}\n"
        )
        self.node.ctl("module_install", "mod_megaphone")
        self.load(HERE / "megaphone_call_bench.erl")
        deadline = time.monotonic() + START_TIMEOUT
        while self.node.eval(f"whereis({self.server})") == "undefined":
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.server} is not there: {self.node.log()[-2000:]}")
            time.sleep(0.05)

    def one(self, count: int, server: str | None = None) -> float:
        """One caller at a time: the median in microseconds."""
        return self._measure(f"one({server or self.server}, {count})")

    def many(self, callers: int, count: int, server: str | None = None) -> float:
        """Many callers at once: calls a second."""
        return self._measure(f"many({server or self.server}, {callers}, {count})")

    def start_erlport(self, home: Path) -> str:
        """Starts erlport's Python; the Erlang text of what is called."""
        compiled = self.home / "erlport"
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
