"""A `megaphone dashboard` that runs, for the tests that look at what it shows."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bridge.cli.errors import ExitStatus
from tests.support.processes import alive, numbers, wait_until
from tests.support.prometheus import Prometheus
from tests.support.tools import require_ejabberd, require_tool

#: Seconds from its start to its last line on a busy machine.
START = 100


@dataclass(frozen=True)
class Shown:
    """What it said.

    Attributes:
        page: The address of the page, without what follows #.
        prometheus: The Prometheus behind it.
        started: When it said so, by time.monotonic().
    """

    page: str
    prometheus: Prometheus
    started: float


def start(directory: Path, *arguments: str, **variables: str) -> subprocess.Popen:
    """Starts the command: what it makes lies below the directory, and it sees no display.

    `variables`: of its environment, over those of the tests.
    """
    require_ejabberd()
    require_tool("prometheus")
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"DISPLAY", "WAYLAND_DISPLAY"}
    }
    return subprocess.Popen(
        (sys.executable, "-u", "-m", "bridge.cli.main", "dashboard", *arguments),
        env={**environment, "TMPDIR": str(directory), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )


@contextlib.contextmanager
def running(directory: Path, **variables: str) -> Iterator[Shown]:
    """One that runs; it is ended by Ctrl-C, and nothing of it may be left then."""
    process = start(directory, **variables)
    watchdog = threading.Timer(START, process.kill)
    watchdog.start()
    try:
        seen = []
        for line in process.stdout:
            seen.append(line)
            if line.startswith("Ctrl-C"):
                break
        watchdog.cancel()
        (page,) = [line.split()[2] for line in seen if line.startswith("The dashboard: ")]
        address = page.partition("#")[0]
        prometheus = Prometheus(address.partition("/consoles/")[0])
        yield Shown(address, prometheus, time.monotonic())
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(timeout=60) == ExitStatus.OK, rest
        assert rest.strip() == "stopping the node"
        nothing_left(directory)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


def nothing_left(directory: Path) -> None:
    """No process and no file of it; a process is told by the directory in its environment."""

    def below() -> list[int]:
        found = []
        for pid in numbers():
            with contextlib.suppress(OSError):
                environment = Path(f"/proc/{pid}/environ").read_bytes()
                if os.fsencode(directory) in environment and alive(pid):
                    found.append(pid)
        return found

    wait_until(lambda: not below(), timeout=10)
    assert list(directory.iterdir()) == []
