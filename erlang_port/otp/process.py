"""Processes: mailboxes, links, monitors, exit signals and names, as an Erlang VM has them.

Theory of operation. A `Process` is its own pid. It has a mailbox and a `receive` that takes one
message at a time; all processes of a `Runtime` take turns on one asyncio loop. A process that waits
for nothing but messages has no task and no timer: it costs its mailbox. A `receive` that gives a
coroutine has it run as a task, and the process takes no other message until that is done.

    idle ──message──▶ ready ──turn──▶ idle, or ready again after `TURN` messages
                        ▲  └─coroutine─▶ busy
                        └──────done──────┘

Turns are taken for `runtime.SLICE` seconds at most before the loop looks after everything else
again, so a server that sends to itself for ever keeps nobody from working; a callback that blocks
does.

Signals arrive at once and in order. An exit signal that is not trapped ends the process wherever it
is, a coroutine that it waits for is cancelled. (ERTS User's Guide, "Processes", sections "Links",
"Monitors" and "Exit Signals".)
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from erlang_port.etf import Atom, Term
from erlang_port.etf import Pid as ErlangPid
from erlang_port.otp.reasons import KILL, KILLED, NOPROC, NORMAL, as_reason, of_exception

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from erlang_port.otp.runtime import Runtime

#: Messages that a process takes in one turn.
TURN: Final = 100

_CREATED: Final = inspect.CORO_CREATED

_EXIT: Final = Atom("EXIT")
_DOWN: Final = Atom("DOWN")
_PROCESS: Final = Atom("process")

#: What a process may raise is its end and nobody else's: not the program's, and not the turns' of
#: others, which an exception that is no `Exception` would take along.
_FAILURES: Final = (Exception, asyncio.CancelledError, SystemExit)

#: The mailbox of all that have no message: an empty deque of its own takes 760 bytes.
NOTHING: Final[deque[Term]] = deque(maxlen=0)

#: Takes a message; what it returns is run before the next one.
Receive: TypeAlias = "Callable[[Any], Coroutine[Any, Any, None] | None]"

#: The process that runs as a coroutine here.
running: ContextVar[Process | None] = ContextVar("running", default=None)


class Reference:
    """A unique reference: of a monitor, a timer, a request."""

    __slots__ = ()


class Watcher(Protocol):
    """Who is told of the end of a process that it monitors."""

    def down(self, reference: Reference, process: Process, reason: Term) -> None:
        """Take the end of a process."""


class Process:
    """A process, which is its own pid.

    Attributes:
        id: Its number, never used again in one life of the program.
        label: What it is, for the log.
        trap_exit: Whether exit signals come as messages `{'EXIT', From, Reason}`.
        parent: Who started it linked, or None.
        exit_reason: Why it has ended, or None while it lives.
        mailbox: Messages that it has not taken.
        cleanup: What is done at its end, however it ends: its timers are cancelled.
    """

    __slots__ = (
        "__weakref__",
        "_links",
        "_monitors",
        "_names",
        "_receive",
        "_runtime",
        "_scheduled",
        "_task",
        "_waiter",
        "_watchers",
        "cleanup",
        "exit_reason",
        "id",
        "label",
        "mailbox",
        "parent",
        "trap_exit",
    )

    def __init__(self, runtime: Runtime, label: str, parent: Process | None = None) -> None:
        self.id = runtime.next_id()
        self.label = label
        self.trap_exit = False
        self.parent = parent
        self.exit_reason: Term = None
        self.cleanup: Callable[[], None] | None = None
        self.mailbox: deque[Term] = NOTHING
        self._runtime = runtime
        self._receive: Receive | None = None
        self._scheduled = False
        self._task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._links: set[Process | ErlangPid] | None = None
        self._watchers: dict[Reference, Watcher] | None = None
        self._monitors: dict[Reference, Process] | None = None
        self._names: list[Term] | None = None
        runtime.processes[self.id] = self

    def __repr__(self) -> str:
        return f"<{self.label} {self.id}>"

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.exit_reason is None

    # Messages.

    def send(self, message: Term) -> None:
        """Put a message into its mailbox; lost when it has ended."""
        if self.exit_reason is not None:
            return
        if self.mailbox is NOTHING:
            self.mailbox = deque()
            self._runtime.used(self)
        self.mailbox.append(message)
        if self._scheduled:
            # It has a turn coming, or is a coroutine, which may be in `receive`.
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)
        elif self._receive is not None:
            self._scheduled = True
            self._runtime.ready(self)

    def put_back(self, messages: Iterable[Term]) -> None:
        """Put messages that were taken before all others again, in their order."""
        if self.mailbox is NOTHING:
            self.mailbox = deque()
            self._runtime.used(self)
        self.mailbox.extendleft(reversed(list(messages)))

    def become(self, receive: Receive) -> None:
        """Have messages taken by `receive` from now on; those that wait, too."""
        self._receive = receive
        if self.mailbox and not self._scheduled:
            self._scheduled = True
            self._runtime.ready(self)

    def turn(self) -> None:
        """Take messages until there are none, the turn is over, or one has to be waited for."""
        runtime = self._runtime
        mailbox = self.mailbox
        assert self._receive is not None  # noqa: S101  # else it is not given turns
        runtime.current = self
        try:
            for _ in range(TURN):
                if not mailbox:
                    break
                waiting = self._receive(mailbox.popleft())
                if self.exit_reason is not None:
                    if waiting is not None:
                        discard(waiting)
                    return
                if waiting is not None:
                    self.run(waiting)
                    return
        except _FAILURES as error:
            self.end(of_exception(error))
            return
        finally:
            runtime.current = None
        if mailbox:
            runtime.ready(self)
        else:
            self._scheduled = False

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine as this process; no message is taken until it is done."""
        self._scheduled = True
        context = copy_context()
        context.run(running.set, self)
        self._task = asyncio.get_running_loop().create_task(
            self._drive(coroutine), name=self.label, context=context
        )

    async def _drive(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        except _FAILURES as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                if self.exit_reason is None:
                    # Not by an exit signal: the loop is being taken down.
                    self.end(KILLED)
                    raise
            else:
                self.end(of_exception(error))
        self._task = None
        if self.exit_reason is not None:
            return
        if self._receive is None:
            # A process that was only its coroutine.
            self.end(NORMAL)
        elif self.mailbox:
            self._runtime.used(self)
            self._runtime.ready(self)
        else:
            self._scheduled = False
            self.mailbox = NOTHING

    async def receive(self, timeout: float | None = None) -> Term:
        """Take the next message; only for a process that is a coroutine, and only by itself.

        Args:
            timeout: Seconds to wait, or None.

        Raises:
            TimeoutError: There was none in time.
        """
        if not self.mailbox:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(timeout):
                    await self._waiter
            finally:
                self._waiter = None
        return self.mailbox.popleft()

    # Signals.

    def exit(self, reason: Term, sender: Process | ErlangPid | None = None) -> None:
        """Send it an exit signal (erlang:exit/2).

        Args:
            reason: `kill` cannot be trapped; `normal` is ignored unless trapped or sent to itself.
            sender: Whom the signal is from; default: the process that runs now.
        """
        if self.exit_reason is not None:
            return
        reason = as_reason(reason)
        if sender is None:
            sender = self._runtime.running
        if type(reason) is Atom and reason == KILL:
            self.end(KILLED)
        else:
            self.signal(sender, reason)

    def signal(self, sender: Process | ErlangPid | None, reason: Term) -> None:
        """Take the exit signal of a link, or one that is not `kill`."""
        if self.exit_reason is not None:
            return
        if self.trap_exit:
            self.send((_EXIT, sender, reason))
        elif reason != NORMAL or sender is self:
            self.end(reason)

    def end(self, reason: Term) -> None:
        """End it: links and monitors are told, names are free again, messages are dropped."""
        if self.exit_reason is not None:
            return
        self.exit_reason = reason
        self._receive = None
        self.mailbox.clear()
        runtime = self._runtime
        runtime.forget(self)
        self._cancel()
        if self.cleanup is not None:
            self.cleanup()
            self.cleanup = None
        monitors, self._monitors = self._monitors, None
        for reference, other in (monitors or {}).items():
            other.unwatch(reference)
        links, self._links = self._links, None
        signals = runtime.signals
        for linked in links or ():
            if isinstance(linked, Process):
                linked._drop_link(self)
                if linked.trap_exit:
                    linked.signal(self, reason)
                else:
                    signals.append((linked, self, reason))
        watchers, self._watchers = self._watchers, None
        for reference, watcher in (watchers or {}).items():
            watcher.down(reference, self, reason)
        if runtime.remote is not None:
            runtime.remote.ended(self, reason)
        if signals:
            runtime.deliver()

    def _cancel(self) -> None:
        task = self._task
        if task is None or task is current_task():
            return
        body = task.get_coro()
        if inspect.iscoroutine(body) and inspect.getcoroutinestate(body) == _CREATED:
            # Cancelled before its first step, it would never come to await what it was given.
            discard_arguments(body)
        task.cancel()

    def link(self, other: Process | ErlangPid) -> None:
        """Link it and another; with one that has ended it gets the signal `noproc`."""
        if other is self or self.exit_reason is not None:
            return
        if isinstance(other, ErlangPid):
            node = self._runtime.at_node()
            self._add_link(other)
            node.link(self, other)
            return
        if other.exit_reason is not None:
            self.signal(other, NOPROC)
            return
        other._add_link(self)
        self._add_link(other)

    def unlink(self, other: Process | ErlangPid) -> None:
        """Take a link back; a signal that came through it stays in the mailbox."""
        self._drop_link(other)
        if isinstance(other, Process):
            other._drop_link(self)
        elif self._runtime.remote is not None:
            self._runtime.remote.unlink(self, other)

    def _add_link(self, other: Process | ErlangPid) -> None:
        if self._links is None:
            self._links = set()
        self._links.add(other)

    def _drop_link(self, other: Process | ErlangPid) -> None:
        if self._links is not None:
            self._links.discard(other)

    def link_gone(self, other: ErlangPid, reason: Term) -> None:
        """Take the exit signal of a link with a process at the node, which is gone with it.

        Nothing happens when the link was taken back meanwhile (ERTS User's Guide, "Links").
        """
        if self._links is not None and other in self._links:
            self._links.discard(other)
            self.signal(other, reason)

    @property
    def links(self) -> frozenset[Process | ErlangPid]:
        """Who is linked to it."""
        return frozenset(self._links or ())

    def monitor(self, other: Process | ErlangPid | Term) -> Reference:
        """Monitor another: `{'DOWN', Reference, process, Pid, Reason}` comes when it ends.

        Args:
            other: A process, a name, or a process or name at the node.
        """
        reference = Reference()
        if self.exit_reason is not None:
            return reference
        target = self._runtime.whereis(other)
        if isinstance(target, Process):
            if target.exit_reason is not None:
                self.down(reference, target, NOPROC)
                return reference
            if self._monitors is None:
                self._monitors = {}
            self._monitors[reference] = target
            target.watch(reference, self)
        elif target is None:
            self.send((_DOWN, reference, _PROCESS, other, NOPROC))
        else:
            self._runtime.at_node().monitor(self, reference, target)
        return reference

    def demonitor(self, reference: Reference) -> None:
        """Take a monitor back, and its message if it is in the mailbox already (`flush`)."""
        target = (self._monitors or {}).pop(reference, None)
        if target is not None:
            target.unwatch(reference)
        elif self._runtime.remote is not None:
            self._runtime.remote.demonitor(self, reference)
        for message in self.mailbox:
            if type(message) is tuple and len(message) == 5 and message[1] is reference:
                self.mailbox.remove(message)
                break

    def down(self, reference: Reference, process: Process | Term, reason: Term) -> None:
        """Take the end of a process that it monitors."""
        if self._monitors is not None:
            self._monitors.pop(reference, None)
        self.send((_DOWN, reference, _PROCESS, process, reason))

    def watch(self, reference: Reference, watcher: Watcher) -> None:
        """Have a watcher told of its end; it must be alive."""
        if self._watchers is None:
            self._watchers = {}
        self._watchers[reference] = watcher

    def unwatch(self, reference: Reference) -> None:
        """Take that back."""
        if self._watchers is not None:
            self._watchers.pop(reference, None)
            if not self._watchers:
                # A server that is idle is to cost its mailbox.
                self._watchers = None


def discard(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Close a coroutine that has not begun, and those that it was to await."""
    discard_arguments(coroutine)
    coroutine.close()


def discard_arguments(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Close the coroutines that were given to one that has not begun."""
    for value in inspect.getcoroutinelocals(coroutine).values():
        if inspect.iscoroutine(value) and inspect.getcoroutinestate(value) == _CREATED:
            discard(value)


def _is_cancelled() -> bool:
    """Whether the task that runs now has been cancelled itself, and not what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def current_task() -> asyncio.Task[Any] | None:
    """The task that runs now, or None outside of a loop."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
