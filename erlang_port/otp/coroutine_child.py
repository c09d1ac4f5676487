"""A coroutine as a child: it runs until its work is done, and is cancelled to be stopped.

Such a child is an async function that is given `started`, calls it once it is initialised, and runs
on. Its process ends when the coroutine has: with `normal` when it returns, with what it raised,
which is logged with its traceback, and after an exit signal with that signal's reason once the
coroutine has cleaned up. `kill` does not wait for that. The process takes no messages; what needs
some is a GenServer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, TypeAlias

from erlang_port.otp import gen
from erlang_port.otp.child_spec import ChildSpec
from erlang_port.otp.process import Process, Reference, running
from erlang_port.otp.reasons import KILLED, NORMAL, Exit, of_exception
from erlang_port.otp.runtime import Runtime
from erlang_port.otp.starting import Starting

if TYPE_CHECKING:
    from erlang_port.etf import Term
    from erlang_port.otp.child_spec import Backoff, Restart, Shutdown

_log = logging.getLogger("megaphone.otp")

#: What a coroutine is given to say that it is initialised.
Started: TypeAlias = Callable[[], None]
Run: TypeAlias = Callable[[Started], Awaitable[None]]


def coroutine_child(
    child_id: str,
    run: Run,
    *,
    restart: Restart = "permanent",
    shutdown: Shutdown | None = None,
    backoff: Backoff | None = None,
) -> ChildSpec:
    """The specification of a coroutine as a child; see `ChildSpec`."""
    return ChildSpec(
        child_id,
        start_link,
        (run, child_id),
        restart=restart,
        shutdown=shutdown,
        backoff=backoff,
    )


async def start_link(run: Run, label: str) -> Process:
    """Run a coroutine as a process linked to the one that runs now; wait until it has started.

    Args:
        run: The coroutine function.
        label: What it is, for the log.

    Raises:
        StartError: It ended before it had started; the reason is that of its end.
    """
    runtime = Runtime.here()
    process = Process(runtime, label, runtime.running)
    starting = Starting(process)
    _Coroutine(process, run, starting)
    await starting.wait(None)
    return process


class _Coroutine(Reference):
    """The process and the task that goes with it."""

    def __init__(self, process: Process, run: Run, starting: Starting) -> None:
        self._process = process
        self._starting = starting
        self._told: Term = None
        process.trap_exit = True
        process.watch(self, self)
        context = copy_context()
        context.run(running.set, process)
        self._task = asyncio.get_running_loop().create_task(
            self._run(run), name=process.label, context=context
        )
        self._task.add_done_callback(self._done)
        process.become(self._receive)

    async def _run(self, run: Run) -> None:
        await run(self._started)

    def _started(self) -> None:
        # The link first: from now on its end is its starter's to know.
        self._starting.link_parent()
        self._starting.done(True)

    def _receive(self, message: Term) -> None:
        if type(message) is tuple and len(message) == 3 and message[0] == gen.EXIT:
            _, sender, reason = message
            if reason != NORMAL or sender is self._process.parent:
                self._told = reason
                self._task.cancel()

    def down(self, reference: Reference, process: Process, reason: Term) -> None:
        """Killed: what the coroutine still does is nobody's."""
        del reference, process, reason
        self._task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        process = self._process
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Exit):
            _log.error("%s ended", process.label, exc_info=error)
        if error is not None:
            process.end(of_exception(error))
        elif self._told is not None:
            process.end(self._told)
        else:
            process.end(KILLED if task.cancelled() else NORMAL)
