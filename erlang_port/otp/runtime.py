"""The runtime: all processes of one asyncio loop, whose turn it is, and who has which name."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeGuard

from erlang_port.etf import Atom, Term
from erlang_port.etf import Pid as ErlangPid
from erlang_port.otp.process import NOTHING, Process, Reference, running
from erlang_port.otp.reasons import Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

_NONODE: Final = Atom("nonode@nohost")
_log = logging.getLogger("megaphone.otp")

#: Seconds of turns after which the loop gets back to everything else.
SLICE: Final = 0.005
#: Mailboxes that bursts leave to be taken away in the loop's next round. Default 1,000: 760 kB.
MAX_USED: Final = 1000


class Remote(Protocol):
    """What a runtime does with processes at the node; the port's end of it is in `remote.py`.

    Attributes:
        name: The node's name.
    """

    name: Atom

    def ended(self, process: Process, reason: Term) -> None:
        """Take the end of a process of this runtime."""

    def link(self, process: Process, other: ErlangPid) -> None:
        """Link a process with one at the node."""

    def unlink(self, process: Process, other: ErlangPid) -> None:
        """Take a link back."""

    def monitor(self, process: Process, reference: Reference, target: Term) -> None:
        """Monitor a process at the node, by pid or by name."""

    def demonitor(self, process: Process, reference: Reference) -> None:
        """Take a monitor back."""

    def send(self, sender: Process | None, target: Term, message: Term) -> None:
        """Send a message to a process at the node, by pid or by name."""

    def exit(self, sender: Process | None, target: ErlangPid, reason: Term) -> None:
        """Send a process at the node an exit signal."""

    async def call(self, kind: Atom, target: Term, request: Term, timeout: float | None) -> Term:
        """Call a process at the node; `kind` as for `erlang_port.otp.gen.request`."""

    async def nodes(self) -> list[Term]:
        """The other nodes that the node is connected with, as far as they may be reached."""

    async def rpc(self, module: str, function: str, args: list[Term], timeout: float) -> Term:
        """Apply a function at the node."""

    async def expose(self, process: Process, names: Sequence[Term]) -> ErlangPid:
        """Have the node start a proxy for a process, with names of its own."""


class Runtime:
    """All processes of one asyncio loop: who takes turns, and who has which name.

    Attributes:
        processes: Those that live, by number.
        names: Processes by their registered names.
        current: Whose turn it is.
        remote: The node, once there is a connection to one.
        signals: Exit signals of links on their way: to whom, from whom, why.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.processes: dict[int, Process] = {}
        self.names: dict[Term, Process] = {}
        self.current: Process | None = None
        self.remote: Remote | None = None
        self.signals: deque[tuple[Process, Process, Term]] = deque()
        self._delivering = False
        self._loop = loop
        self._queue: deque[Process] = deque()
        self._awake = False
        self._used: list[Process] = []
        self._ids = itertools.count(1)

    @classmethod
    def here(cls) -> Runtime:
        """The running loop's runtime."""
        loop = asyncio.get_running_loop()
        runtime = _runtimes.get(loop)
        if runtime is None:
            runtime = _runtimes[loop] = cls(loop)
        return runtime

    def next_id(self) -> int:
        """A number for a process."""
        return next(self._ids)

    @property
    def running(self) -> Process | None:
        """The process that runs now, in a turn or as a coroutine."""
        return self.current or running.get()

    def ready(self, process: Process) -> None:
        """Give a process a turn."""
        self._queue.append(process)
        if not self._awake:
            self._awake = True
            self._loop.call_soon(self._turns)

    def used(self, process: Process) -> None:
        """Have the mailbox of a process taken away once nobody is ready."""
        self._used.append(process)

    def deliver(self) -> None:
        """Deliver `signals`, and those that they lead to: the chain of links may be long."""
        if self._delivering:
            return
        self._delivering = True
        while self.signals:
            process, sender, reason = self.signals.popleft()
            try:
                process.signal(sender, reason)
            except Exception:  # noqa: BLE001  # whatever its cleanup raises
                # What is behind it is others', and comes all the same.
                _log.exception("the end of %s failed", process)
        self._delivering = False

    def burst(self, work: Callable[[], None]) -> None:
        """Do what makes processes ready, and give them turns at once.

        They would have them in the loop's next round, which costs as much as a small call.
        """
        scheduled, self._awake = self._awake, True
        try:
            work()
        finally:
            self._take_turns()
            self._awake = scheduled
            if not scheduled and (self._queue or len(self._used) > MAX_USED):
                self._awake = True
                self._loop.call_soon(self._turns)

    def _take_turns(self) -> None:
        queue = self._queue
        now = time.monotonic
        over = now() + SLICE
        while queue:
            process = queue.popleft()
            if process.exit_reason is None:
                process.turn()
            if now() > over:
                break

    def _turns(self) -> None:
        self._take_turns()
        if self._queue:
            self._loop.call_soon(self._turns)
            return
        self._awake = False
        # Here and not in each turn, for between two turns most get another message.
        for process in self._used:
            if not process.mailbox:
                process.mailbox = NOTHING
        self._used.clear()

    def spawn(
        self,
        body: Callable[[], Coroutine[Any, Any, None]],
        *,
        label: str = "process",
        link: bool = False,
        trap_exit: bool = False,
    ) -> Process:
        """Start a process that is a coroutine; it ends when that does.

        Args:
            body: Makes the coroutine; inside it `self()` is the process.
            label: For the log.
            link: Whether to link it to the process that runs now.
            trap_exit: Its flag.
        """
        parent = self.running if link else None
        process = Process(self, label, parent)
        process.trap_exit = trap_exit
        if parent is not None:
            process.link(parent)
        process.run(body())
        return process

    def idle(self, label: str) -> Process:
        """Start a process that does nothing and drops every message."""
        process = Process(self, label)
        process.become(lambda _: None)
        return process

    def register(self, name: Term, process: Process) -> None:
        """Register a name, which is free again when the process ends.

        Args:
            name: An atom or string, `{local, Name}` or `{global, Name}`; `{via, Module, Name}`
                asks the module, an object with `register_name` here, and leaves freeing it to it.
            process: Who gets it.

        Raises:
            ValueError: The name is taken, or the process has ended.
        """
        if not process.alive:
            raise ValueError(f"{process} has ended")
        if _is_via(name):
            if not name[1].register_name(name[2], process):
                raise ValueError(f"{name[2]} is registered already")
            return
        key = _key(name)
        if key in self.names:
            raise ValueError(f"{name} is registered already")
        self.names[key] = process
        if process._names is None:
            process._names = []
        process._names.append(key)

    def unregister(self, name: Term) -> None:
        """Free a name.

        Raises:
            ValueError: Nobody has it.
        """
        if _is_via(name):
            name[1].unregister_name(name[2])
            return
        process = self.names.pop(_key(name), None)
        if process is None:
            raise ValueError(f"{name} is not registered")
        if process._names is not None:
            process._names.remove(_key(name))

    def whereis(self, server: Term) -> Term | None:
        """Who a pid or name stands for.

        Args:
            server: A process, a pid of the node's, an atom or string, `{local, Name}`,
                `{global, Name}`, `{Name, Node}` or `{via, Module, Name}`; such a module is an
                object with `whereis_name` here.

        Returns:
            The process; the argument itself when it can only be at the node; None: nobody.
        """
        if isinstance(server, Process | ErlangPid):
            return server
        if _is_via(server):
            return server[1].whereis_name(server[2])
        found = self.names.get(_key(server))
        if found is not None:
            return found
        if is_at_node(server) and server[1] == self.node:
            # Names here are names at the node.
            return self.whereis(server[0])
        return server if self.remote is not None else None

    @property
    def node(self) -> Atom:
        """The node's name, as processes here have it, too; `nonode@nohost` without a connection."""
        return _NONODE if self.remote is None else self.remote.name

    def at_node(self) -> Remote:
        """The node.

        Raises:
            Exit: `noconnection`: there is none.
        """
        if self.remote is None:
            raise Exit(Atom("noconnection"))
        return self.remote

    def forget(self, process: Process) -> None:
        """Take the end of a process."""
        self.processes.pop(process.id, None)
        for name in process._names or ():
            del self.names[name]


def is_at_node(server: Term) -> TypeGuard[tuple[str, str]]:
    """Whether a name is `{Name, Node}`."""
    return (
        type(server) is tuple
        and len(server) == 2
        and isinstance(server[0], str)
        and isinstance(server[1], str)
        and server[0] not in {"local", "global"}
    )


def _is_via(name: Term) -> bool:
    return type(name) is tuple and len(name) == 3 and name[0] == "via"


def _key(name: Term) -> Term:
    return name[1] if type(name) is tuple and len(name) == 2 and name[0] == "local" else name


def self() -> Process:
    """The process that runs now.

    Raises:
        RuntimeError: None does.
    """
    process = Runtime.here().running
    if process is None:
        raise RuntimeError("no process runs here: spawn one")
    return process


_runtimes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Runtime] = (
    weakref.WeakKeyDictionary()
)
