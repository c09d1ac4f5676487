"""Looking at processes from a test; independent of the code under test."""

import os
import time
from collections.abc import Callable
from pathlib import Path

PROC = Path("/proc")


def wait_until(condition: Callable[[], object], timeout: float = 5.0, what: str = "") -> None:
    """Waits until the condition holds; AssertionError when it does not in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or condition}")
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    return _field(pid, "State") not in {None, "Z", "X"}


def state(pid: int) -> str | None:
    """The state letter of proc(5), None when there is no such process."""
    return _field(pid, "State")


def wait_gone(pid: int, timeout: float = 5.0) -> None:
    """Waits until the process has ended; AssertionError when it has not in time."""
    wait_until(lambda: not alive(pid), timeout, f"process {pid} is gone: {command_line(pid)}")


def children(pid: int) -> list[int]:
    """Its children, zombies left out."""
    return [n for n in numbers() if _field(n, "PPid") == str(pid) and alive(n)]


def descendants(pid: int) -> list[int]:
    """Its children, their children and so on, zombies left out."""
    found = children(pid)
    for child in list(found):
        found += descendants(child)
    return found


def with_environment(name: str, value: str) -> list[int]:
    """The processes that were started with this variable of this value, this one left out."""
    entry = os.fsencode(f"{name}={value}")
    found = []
    for pid in numbers():
        try:
            environment = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if entry in environment and pid != os.getpid() and alive(pid):
            found.append(pid)
    return found


def command_line(pid: int) -> list[str]:
    """Its arguments, empty when it is gone."""
    try:
        return [
            os.fsdecode(word)
            for word in (PROC / str(pid) / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        ]
    except OSError:
        return []


def resident_bytes(pid: int) -> int:
    """Its resident set (VmRSS), in bytes; 0 when it is gone."""
    size = _field(pid, "VmRSS")
    return 0 if size is None else int(size) * 1024


def numbers() -> list[int]:
    """The pids of this moment."""
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal()]


def _field(pid: int, name: str) -> str | None:
    try:
        lines = (PROC / str(pid) / "status").read_text(errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        label, _, value = line.partition(":")
        if label == name:
            return value.split()[0]
    return None
