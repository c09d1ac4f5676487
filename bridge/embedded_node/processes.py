"""Processes of this machine, told apart by pid and start time (proc(5)), awaited by pidfd."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that no later one with the same pid can be mistaken for.

    Attributes:
        pid: Its number.
        started: When it began, in clock ticks since boot.
    """

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        """Whether it runs; a zombie does not."""
        return identify(self.pid) == self


@dataclass(frozen=True, slots=True)
class _Stat:
    parent: int
    started: int
    zombie: bool


def identify(pid: int) -> Identity | None:
    """The process that has this pid now, None when there is none or only a zombie."""
    stat = _stat(pid)
    return None if stat is None or stat.zombie else Identity(pid, stat.started)


def descendants(pid: int) -> list[Identity]:
    """Children, their children and so on, zombies left out."""
    table = {number: stat for number in numbers() if (stat := _stat(number)) is not None}
    found: list[Identity] = []
    parents = {pid}
    while parents:
        level = {number for number, stat in table.items() if stat.parent in parents}
        found += [Identity(n, table[n].started) for n in level if not table[n].zombie]
        parents = level
    return found


def carrying(name: str, value: str | None = None) -> Iterator[tuple[Identity, str]]:
    """Processes that have a variable in their environment, with its value.

    Args:
        name: The variable.
        value: Only those with this value; any when None.
    """
    prefix = os.fsencode(f"{name}=")
    for number in numbers():
        with contextlib.suppress(OSError):
            for entry in (PROC / str(number) / "environ").read_bytes().split(b"\0"):
                if entry.startswith(prefix):
                    found = os.fsdecode(entry[len(prefix) :])
                    identity = identify(number)
                    if identity is not None and value in {None, found}:
                        yield identity, found


def send(process: Identity, number: signal.Signals) -> bool:
    """Sends a signal to this very process; whether it was there to get it."""
    with _descriptor(process) as descriptor:
        if descriptor is None or not process.alive:
            return False
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, number)
            return True
        return False


def wait_gone(processes: Iterable[Identity], timeout: float) -> list[Identity]:
    """Waits until they have ended.

    Args:
        processes: Any processes, children or not.
        timeout: Seconds for all of them together.

    Returns:
        Those that still run.
    """
    deadline = monotonic() + timeout
    left = []
    for process in processes:
        with _descriptor(process) as descriptor:
            if descriptor is None:
                continue
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            if not poll.poll(max(0.0, deadline - monotonic()) * 1000):
                left.append(process)
    return left


def numbers() -> list[int]:
    """The pids of this moment."""
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal()]


@contextlib.contextmanager
def _descriptor(process: Identity) -> Iterator[int | None]:
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        # Looked at after the descriptor is open: from here on it cannot become another process.
        # A zombie counts: its first thread has ended, others may not have, and poll(2) knows.
        stat = _stat(process.pid)
        yield descriptor if stat is not None and stat.started == process.started else None
    finally:
        os.close(descriptor)


def _stat(pid: int) -> _Stat | None:
    try:
        text = (PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The second field is the program's name and may hold anything, a parenthesis included.
    fields = text[text.rindex(b")") + 2 :].split()
    return _Stat(parent=int(fields[1]), started=int(fields[19]), zombie=fields[0] in {b"Z", b"X"})
