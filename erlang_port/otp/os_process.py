"""A process of the operating system as a child.

Its end is the end of an Erlang process that stands for it, with the exit status as the reason:
`normal` for 0, else `{exit_status, Status}`, which is 128 more than the signal that killed it, as a
port's is (erlang:open_port/2). It is ended by SIGTERM, and by SIGKILL when it has not ended in its
shutdown time; when this program dies, the kernel kills it.
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

DEFAULT_BACKOFF: Final = Backoff()

_EXIT_STATUS: Final = Atom("exit_status")


def os_process(
    child_id: str,
    command: Command,
    *,
    environment: Mapping[str, str] | None = None,
    restart: Restart = "permanent",
    shutdown: Shutdown = DEFAULT_SHUTDOWN,
    backoff: Backoff | None = DEFAULT_BACKOFF,
) -> ChildSpec:
    """The specification of a process of the operating system as a child.

    Args:
        child_id: Its id.
        command: See `Command`.
        environment: Of the process; default: this program's.
        restart: See `ChildSpec`; an exit status of 0 is a normal end.
        shutdown: Seconds between SIGTERM and SIGKILL; `BRUTAL_KILL`: SIGKILL at once.
        backoff: How long restarts wait; None: not at all, and they count for the intensity.
    """
    return ChildSpec(
        child_id,
        start_link,
        (command, child_id, shutdown, environment),
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
) -> Process:
    """Start a process of the operating system, linked to the process that runs now.

    Args:
        command: See `Command`.
        label: What it is, for the log.
        shutdown: See `os_process`.
        environment: See `os_process`.

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
            subprocess = await asyncio.shield(starting)
        except asyncio.CancelledError:
            with contextlib.suppress(OSError):
                await _end(await starting, BRUTAL_KILL)
            raise
        started()
        try:
            status = await subprocess.wait()
        except asyncio.CancelledError:
            await _end(subprocess, shutdown if self().alive else BRUTAL_KILL)
            raise
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


async def _end(subprocess: Subprocess, shutdown: Shutdown) -> None:
    """Have a process end, and wait until it has; a second cancellation is the end of patience."""
    try:
        pidfd = os.pidfd_open(subprocess.pid)
    except OSError:
        # It is gone already.
        return
    try:
        if shutdown != BRUTAL_KILL:
            _signal(pidfd, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                patience = None if shutdown in {INFINITY, math.inf} else float(shutdown)
                async with asyncio.timeout(patience):
                    await subprocess.wait()
    finally:
        # Not Popen's own: it may reap the child before asyncio does, and lose its exit status.
        _signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
        await subprocess.wait()


def _signal(pidfd: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)
