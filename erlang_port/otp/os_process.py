"""A process of the operating system as a child.

Its end is the end of an Erlang process that stands for it, with the exit status as the reason:
`normal` for 0, else `{exit_status, Status}`, which is 128 more than the signal that killed it, as a
port's is (erlang:open_port/2). It is ended by SIGTERM, and by SIGKILL when it has not ended in its
shutdown time; when this program dies, the kernel kills it.

One that is spoken to has a *body*, a coroutine that runs while it does: when the body has returned,
the process is of no more use and is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias
from weakref import WeakKeyDictionary

from erlang_port.etf import Atom, Term
from erlang_port.otp import coroutine_child
from erlang_port.otp.child_spec import BRUTAL_KILL, DEFAULT_SHUTDOWN, INFINITY, Backoff, ChildSpec
from erlang_port.otp.reasons import NORMAL, Exit
from erlang_port.otp.runtime import self

if TYPE_CHECKING:
    from asyncio.subprocess import Process as Subprocess

    from erlang_port.otp.child_spec import Restart, Shutdown
    from erlang_port.otp.process import Process

#: A command line; or what starts the process, for one that needs descriptors or a greeting.
Command: TypeAlias = "Sequence[str] | Callable[[], Awaitable[Subprocess]]"

#: What is done with the process while it lives. What it raises is the reason of the process's end.
Body: TypeAlias = "Callable[[], Awaitable[None]]"

DEFAULT_BACKOFF: Final = Backoff()

_EXIT_STATUS: Final = Atom("exit_status")

#: Process ids, by the processes that stand for them.
pids: WeakKeyDictionary[Process, int] = WeakKeyDictionary()


def os_process(
    child_id: str,
    command: Command,
    *,
    body: Body | None = None,
    environment: Mapping[str, str] | None = None,
    restart: Restart = "permanent",
    shutdown: Shutdown = DEFAULT_SHUTDOWN,
    backoff: Backoff | None = DEFAULT_BACKOFF,
) -> ChildSpec:
    """The specification of a process of the operating system as a child.

    Args:
        child_id: Its id.
        command: See `Command`.
        body: See `Body`; None: its end is waited for.
        environment: Of the process; default: this program's.
        restart: See `ChildSpec`; an exit status of 0 is a normal end.
        shutdown: Seconds between SIGTERM and SIGKILL; `BRUTAL_KILL`: SIGKILL at once.
        backoff: How long restarts wait; None: not at all, and they count for the intensity.
    """
    return ChildSpec(
        child_id,
        start_link,
        (command, child_id, shutdown, environment, body),
        restart=restart,
        # The process that stands for it looks after the time.
        shutdown=INFINITY,
        backoff=backoff,
    )


async def start_link(
    command: Command,
    label: str,
    shutdown: Shutdown = DEFAULT_SHUTDOWN,
    environment: Mapping[str, str] | None = None,
    body: Body | None = None,
) -> Process:
    """Start a process of the operating system, linked to the process that runs now.

    Args:
        command: See `Command`.
        label: What it is, for the log.
        shutdown: See `os_process`.
        environment: See `os_process`.
        body: See `os_process`.

    Raises:
        StartError: It cannot be started: what the factory raised. A command that cannot be run ends
            with `{exit_status, 127}`, as a shell's does.
    """

    async def run(started: coroutine_child.Started) -> None:
        if callable(command):
            starting = asyncio.ensure_future(command())
        else:
            starting = asyncio.ensure_future(_spawn(command, environment))
        try:
            running = _Running(await asyncio.shield(starting))
        except asyncio.CancelledError:
            with contextlib.suppress(OSError, Exit):
                await _Running(await starting).end(BRUTAL_KILL)
            raise
        pids[self()] = running.subprocess.pid
        started()
        how: Shutdown = BRUTAL_KILL
        try:
            await (running.subprocess.wait() if body is None else body())
        except asyncio.CancelledError:
            if self().alive:
                how = shutdown
            raise
        finally:
            status = await running.end(how)
        if (reason := exit_reason(status)) != NORMAL:
            raise Exit(reason)

    return await coroutine_child.start_link(run, label)


def exit_reason(status: int) -> Term:
    """The reason that an exit status is, given as Python has it: a signal is negative."""
    if status == 0:
        return NORMAL
    return _EXIT_STATUS, 128 - status if status < 0 else status


async def _spawn(command: Sequence[str], environment: Mapping[str, str] | None) -> Subprocess:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", "erlang_port.spawned", str(os.getpid())),
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        env=environment,
    )


class _Running:
    """A running process: signalled by a descriptor of its own, for its pid may be another's."""

    def __init__(self, subprocess: Subprocess) -> None:
        self.subprocess = subprocess
        try:
            self._pidfd: int | None = os.pidfd_open(subprocess.pid)
        except OSError:
            # It is gone already, or there are no descriptors left.
            self._pidfd = None

    async def end(self, shutdown: Shutdown) -> int:
        """Have it end, and wait until it has, cancelled or not; its exit status.

        A cancellation is the end of patience.
        """
        try:
            if shutdown != BRUTAL_KILL:
                self._signal(signal.SIGTERM)
                patience = None if shutdown in {INFINITY, math.inf} else float(shutdown)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(patience):
                        return await self.subprocess.wait()
        finally:
            self._signal(signal.SIGKILL)
            if self._pidfd is not None:
                os.close(self._pidfd)
                self._pidfd = None
            waiting = asyncio.ensure_future(self.subprocess.wait())
            try:
                await asyncio.shield(waiting)
            except asyncio.CancelledError:
                await waiting
                raise
        return await waiting

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, number)
            elif self.subprocess.returncode is None:
                # It may reap the child before asyncio does, and lose its exit status.
                self.subprocess.send_signal(number)
