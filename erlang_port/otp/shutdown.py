"""How a supervisor has a child end (supervisor(3), "shutdown")."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from erlang_port.otp import gen
from erlang_port.otp.child_spec import BRUTAL_KILL, INFINITY
from erlang_port.otp.process import Reference
from erlang_port.otp.reasons import KILL, KILLED, SHUTDOWN, is_quiet

if TYPE_CHECKING:
    from erlang_port.etf import Term
    from erlang_port.otp.child_spec import Shutdown
    from erlang_port.otp.process import Process


class Ended(Reference):
    """Waits for the end of a process without a message."""

    __slots__ = ("_future", "_process")

    def __init__(self, process: Process) -> None:
        self._process = process
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if process.alive:
            process.watch(self, self)
        else:
            self._future.set_result(None)

    def down(self, reference: Reference, process: Process, reason: Term) -> None:
        """See `erlang_port.otp.process.Watcher`."""
        del reference, process, reason
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait for it.

        Args:
            timeout: Seconds, or None.

        Returns:
            Whether the process has ended.
        """
        try:
            await asyncio.wait({self._future}, timeout=timeout)
        finally:
            self._process.unwatch(self)
        return self._future.done()


async def shut_down(process: Process, supervisor: Process, how: Shutdown) -> Term:
    """End a child, and wait until it has ended.

    Args:
        process: The child; it may have ended already.
        supervisor: Who asks it to, and gets no exit signal for it.
        how: See `ChildSpec.shutdown`.

    Returns:
        The reason of its end: what was asked for when all went well.
    """
    if how == BRUTAL_KILL:
        process.exit(KILL, supervisor)
    else:
        ended = Ended(process)
        process.exit(SHUTDOWN, supervisor)
        if not await ended.wait(None if how == INFINITY else float(how)):
            process.exit(KILL, supervisor)
    # Now it has ended: nothing survives `kill`.
    supervisor.unlink(process)
    flush_exit(supervisor, process)
    return process.exit_reason


def flush_exit(supervisor: Process, process: Process) -> None:
    """Take the exit signal of a child out of its supervisor's mailbox."""
    for message in supervisor.mailbox:
        if (
            type(message) is tuple
            and len(message) == 3
            and message[0] == gen.EXIT
            and message[1] is process
        ):
            supervisor.mailbox.remove(message)
            break


def expected(how: Shutdown, reason: Term, *, permanent: bool) -> bool:
    """Whether a child ended as it was told to, so that nothing has to be logged."""
    wanted = KILLED if how == BRUTAL_KILL else SHUTDOWN
    return bool(reason == wanted) or (not permanent and is_quiet(reason))
