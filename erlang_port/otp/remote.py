"""Processes of this runtime as the node sees them, and processes at the node as this runtime does.

A process that the node may reach is *exposed*: the node starts a proxy for it, a process of its own
that has its names. What reaches the proxy comes here as signals, and what the process does with
processes at the node goes there (docs/protocol.md, "Signals"). The node decides what is allowed.

A process without a proxy gets one, without a name, with the first signal that it sends to the node.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from erlang_port.etf import Atom, EtfError, Term, decode, encode
from erlang_port.etf import Pid as ErlangPid
from erlang_port.messages import Signal
from erlang_port.otp import gen
from erlang_port.otp.outward import encode_outward, outward
from erlang_port.otp.proxies import Proxies
from erlang_port.otp.reasons import NOPROC, NORMAL, TIMEOUT, Exit, as_reason
from erlang_port.otp.runtime import is_at_node
from erlang_port.transports.calls import CallError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from erlang_port.otp.process import Process, Reference
    from erlang_port.otp.runtime import Runtime

_log = logging.getLogger("megaphone.otp")

#: The name that answers at the node.
_ERLANG: Final = "erlang"

#: Seconds that a call to the node waits where its caller would wait for ever: the node's own limit.
LONGEST_CALL: Final = 30.0

_NOCONNECTION: Final = Atom("noconnection")
_CALLS: Final = {
    "call": gen.CALL,
    "sync_event": Atom("$gen_sync_event"),
    "sync_all_event": Atom("$gen_sync_all_state_event"),
}
_EVENTS: Final = {
    "cast": gen.CAST,
    "event": Atom("$gen_event"),
    "all_event": Atom("$gen_all_state_event"),
}
#: Requests of `sys` whose answer is a state.
_STATE_REQUESTS: Final = {"get_state", "replace_state"}

#: What such a call is named when it goes the other way.
_REQUESTS: Final = {kind: Atom(name) for name, kind in _CALLS.items()}


class Port(Protocol):
    """What of the connection to the node is used here."""

    undecoded: int

    def send_signals(self, signals: Sequence[Signal]) -> Sequence[Signal]:
        """Send signals in as few frames as hold them; those that are lost."""

    async def call(self, name: str, request: Term, timeout: float) -> Term:
        """Call a name at the node."""


class NodeCaller:
    """Takes the answer of a call that came from the node.

    Attributes:
        deadline: When nobody waits any more, on the monotonic clock in seconds, or None: not known.
    """

    __slots__ = ("_node", "_process", "_ref", "deadline")

    def __init__(self, node: Node, process: int, ref: int, deadline: float | None) -> None:
        self._node: Node | None = node
        self._process = process
        self._ref = ref
        self.deadline = deadline

    def reply(self, value: Term) -> None:
        """See `erlang_port.otp.gen.Caller`."""
        node, self._node = self._node, None
        if node is not None:
            node.answer(self._process, self._ref, value)


class BareStateCaller(NodeCaller):
    """Takes a server's state for a `sys` that wants it as it is: before OTP 26.1."""

    __slots__ = ()

    def reply(self, value: Term) -> None:
        """See `erlang_port.otp.gen.Caller`."""
        match value:
            case ("ok", state):
                value = state
        super().reply(value)


class Node:
    """The node, for the processes of one runtime.

    Args:
        runtime: Whose processes.
        port: The connection.
        name: The node's name.
    """

    def __init__(self, runtime: Runtime, port: Port, name: str) -> None:
        self.name = Atom(name)
        self._runtime = runtime
        self._port = port
        self._proxies = Proxies(port.call, self._queue, self._lost)
        self._monitors: dict[int, tuple[Process, Reference, Term]] = {}
        # By process, so that the end of one without monitors costs nothing.
        self._numbers: dict[int, dict[Reference, int]] = {}
        self._next_monitor = 1
        self._outgoing: list[Signal] = []
        self._taking = False
        self._over = False
        # Sends for whoever is no process.
        self._nobody: Process | None = None

    def proxy(self, process: Process) -> ErlangPid | None:
        """The pid at the node of an exposed process."""
        return self._proxies.of(process)

    async def expose(self, process: Process, names: Sequence[Term] = ()) -> ErlangPid:
        """Start a proxy for a process, with names in the node's registry or in `global`.

        Args:
            process: Which one; it must live.
            names: An atom or string, `{local, Name}` or `{global, Name}` each; others are no names
                at the node.

        Raises:
            Exit: The node refused: a name is taken, or there are too many. Or it has one already.
        """
        return await self._proxies.expose(process, names)

    def ended(self, process: Process, reason: Term) -> None:
        """See `erlang_port.otp.runtime.Remote`."""
        self._proxies.ended(process, reason)
        for number in self._numbers.pop(process.id, {}).values():
            del self._monitors[number]

    def disconnected(self) -> None:
        """Take the end of the connection, as in Erlang: links and monitors end with `noconnection`.

        Proxies and their names are gone; the runtime has no node until another one is attached.
        """
        if self._runtime.remote is self:
            self._runtime.remote = None
        # The numbers of callers are others' at another node, and in this one's next life.
        self._over = True
        self._outgoing.clear()
        if self._nobody is not None:
            self._nobody.end(NORMAL)
        for number in list(self._monitors):
            self._down(number, (None, _NOCONNECTION))
        for process in list(self._runtime.processes.values()):
            for other in process.links:
                if isinstance(other, ErlangPid):
                    process.link_gone(other, _NOCONNECTION)

    # From the node.

    def take(self, signals: Sequence[Signal]) -> None:
        """Take signals in their order, and let those that they are for take turns at once."""
        self._taking = True
        try:
            self._runtime.burst(partial(self._hand_on, signals))
        finally:
            self._taking = False
            if self._outgoing:
                self._flush()

    def _hand_on(self, signals: Sequence[Signal]) -> None:
        processes = self._runtime.processes
        for signal in signals:
            process = processes.get(signal.process)
            if process is None:
                # Its end is on its way to the proxy, and the caller learns of that.
                continue
            try:
                self._take(process, signal, decode(signal.payload))
            except Exception as error:  # noqa: BLE001  # what comes behind it is others'
                if isinstance(error, EtfError):
                    self._port.undecoded += 1
                # Of what is no term only what is wrong with it, which never shows what is in it.
                why = str(error) if isinstance(error, EtfError) else type(error).__name__
                _log.warning("a signal of the node's, %s, was dropped: %s", signal.kind, why)
                if signal.ref and signal.kind != "down":
                    self._refuse(signal, (Atom("badarg"), why.encode()))

    def _take(self, process: Process, signal: Signal, term: Term) -> None:
        kind = signal.kind
        if kind in _CALLS:
            pid, request, timeout = term
            deadline = None if timeout == "infinity" else time.monotonic() + timeout / 1000
            caller = NodeCaller(self, process.id, signal.ref, deadline)
            process.send((_CALLS[kind], gen.From(pid, caller), request))
        elif kind in _EVENTS:
            process.send((_EVENTS[kind], term))
        elif kind == "info":
            process.send(term)
        elif kind == "system":
            pid, request, wants_ok = term
            bare = not wants_ok and _kind(request) in _STATE_REQUESTS
            caller = (BareStateCaller if bare else NodeCaller)(self, process.id, signal.ref, None)
            process.send((gen.SYSTEM, gen.From(pid, caller), request))
        elif kind == "exit":
            process.signal(*term)
        elif kind == "link_exit":
            process.link_gone(*term)
        elif kind == "gone":
            # There is nobody to be told at the node.
            self._proxies.gone(process)
            process.end(term)
        elif kind == "down":
            self._down(signal.ref, term)

    def _down(self, number: int, term: Term) -> None:
        found = self._monitors.get(number)
        if found is not None:
            process, reference, wanted = found
            self._forget_monitor(number)
            target, reason = term
            process.down(reference, wanted if target is None else target, reason)

    # To the node.

    def answer(self, process: int, ref: int, value: Term) -> None:
        """Answer a call."""
        try:
            payload = encode(value)
        except EtfError:
            payload = encode_outward(value, self.proxy)
        self._queue(Signal(process, "reply", ref, payload))

    def _refuse(self, signal: Signal, reason: Term) -> None:
        self._queue(Signal(signal.process, "refuse", signal.ref, encode(reason)))

    def send(self, sender: Process | None, target: Term, message: Term) -> None:
        """See `erlang_port.otp.runtime.Remote`."""
        kind = "send"
        if type(message) is tuple and len(message) == 2 and message[0] == gen.CAST:
            kind, message = "cast", message[1]
        self._signal(sender, kind, 0, (_target(target), message))

    def exit(self, sender: Process | None, target: ErlangPid, reason: Term) -> None:
        """See `erlang_port.otp.runtime.Remote`."""
        self._signal(sender, "exit_signal", 0, (target, as_reason(reason)))

    def link(self, process: Process, other: ErlangPid) -> None:
        """See `erlang_port.otp.runtime.Remote`."""
        self._signal(process, "link", 0, other)

    def unlink(self, process: Process, other: ErlangPid) -> None:
        """See `erlang_port.otp.runtime.Remote`."""
        self._signal(process, "unlink", 0, other)

    def monitor(self, process: Process, reference: Reference, target: Term) -> None:
        """See `erlang_port.otp.runtime.Remote`."""
        number, self._next_monitor = self._next_monitor, self._next_monitor + 1
        self._monitors[number] = process, reference, target
        self._numbers.setdefault(process.id, {})[reference] = number
        self._signal(process, "monitor", number, _target(target))

    def demonitor(self, process: Process, reference: Reference) -> None:
        """See `erlang_port.otp.runtime.Remote`."""
        number = self._numbers.get(process.id, {}).get(reference)
        if number is not None:
            self._forget_monitor(number)
            self._signal(process, "demonitor", number, None)

    def _forget_monitor(self, number: int) -> None:
        process, reference, _ = self._monitors.pop(number)
        numbers = self._numbers[process.id]
        del numbers[reference]
        if not numbers:
            del self._numbers[process.id]

    async def call(self, kind: Atom, target: Term, request: Term, timeout: float | None) -> Term:
        """See `erlang_port.otp.runtime.Remote`.

        Raises:
            Exit: `{refused, Text}`: the node's configuration does not allow it; `noproc`,
                `{nodedown, Node}`, `timeout`, `noconnection`, `{crash, Text}`, or
                `{badarg, Text}`: the request holds an atom that the node does not know.
        """
        seconds = LONGEST_CALL if timeout is None else min(timeout, LONGEST_CALL)
        asked = (
            _REQUESTS[kind],
            encode_outward(_target(target), self.proxy),
            encode_outward(request, self.proxy),
            int(seconds * 1000),
        )
        return await self._ask(asked, seconds)

    async def rpc(
        self, module: str, function: str, args: list[Term], timeout: float = gen.CALL_TIMEOUT
    ) -> Term:
        """Apply a function at the node that the module's option `allowed_functions` names.

        Args:
            module: Its module.
            function: Its name.
            args: Its arguments.
            timeout: Seconds; 30 at most.

        Raises:
            Exit: As for `call`.
        """
        seconds = min(timeout, LONGEST_CALL)
        asked = (
            Atom("rpc"),
            module.encode(),
            function.encode(),
            encode_outward(args, self.proxy),
            int(seconds * 1000),
        )
        return await self._ask(asked, seconds)

    async def nodes(self) -> list[Term]:
        """See `erlang_port.otp.runtime.Remote`."""
        found = await self._ask(Atom("nodes"), gen.CALL_TIMEOUT)
        return found if isinstance(found, list) else []

    async def _ask(self, request: Term, seconds: float) -> Term:
        try:
            try:
                return await self._port.call(_ERLANG, request, seconds)
            except EtfError:
                return await self._port.call(_ERLANG, outward(request, self.proxy), seconds)
        except EtfError as error:
            raise Exit((Atom("badarg"), str(error).encode())) from None
        except CallError as error:
            if error.kind == "noproc":
                raise Exit(NOPROC) from None
            if error.kind == "timeout":
                raise Exit(TIMEOUT) from None
            if error.kind == "nodedown":
                raise Exit((Atom("nodedown"), Atom(error.text))) from None
            raise Exit((Atom(error.kind), error.text.encode())) from None
        except TimeoutError:
            raise Exit(TIMEOUT) from None
        except ConnectionError:
            raise Exit(_NOCONNECTION) from None

    def _signal(self, process: Process | None, kind: str, ref: int, term: Term) -> None:
        sender = process or self._anybody()
        if sender.alive:
            signal = Signal(sender.id, kind, ref, encode_outward(term, self.proxy))
            self._proxies.send(sender, signal)

    def _lost(self, signal: Signal) -> None:
        """Tell its process what became of a signal that the node does not get.

        As in OTP when there is no connection to a node: links and monitors are told, messages lost.
        """
        process = self._runtime.processes.get(signal.process)
        if signal.kind == "link" and process is not None:
            process.link_gone(decode(signal.payload), _NOCONNECTION)
        elif signal.kind == "monitor":
            self._down(signal.ref, (decode(signal.payload), _NOCONNECTION))

    def _anybody(self) -> Process:
        if self._nobody is None or not self._nobody.alive:
            self._nobody = self._runtime.idle("nobody")
        return self._nobody

    def _queue(self, signal: Signal) -> None:
        if self._over:
            return
        # Those of one turn of the loop travel together.
        if not self._outgoing and not self._taking:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(signal)

    def _flush(self) -> None:
        signals, self._outgoing = self._outgoing, []
        if signals and (lost := self._port.send_signals(signals)):
            _log.warning("%d signals to the node are lost: no frame or queue holds them", len(lost))
            for signal in lost:
                self._lost(signal)


def attach(runtime: Runtime, port: Port, name: str) -> Node:
    """Make a connection to the node of this name the runtime's way to it."""
    node = Node(runtime, port, name)
    runtime.remote = node
    return node


def _kind(request: Term) -> Term:
    """What a request of `sys` is: an atom, or a tuple that begins with one."""
    return request[0] if type(request) is tuple and request else request


def _target(target: Term) -> Term:
    """A pid or name as the node takes it: names are atoms."""
    if isinstance(target, ErlangPid):
        return target
    if type(target) is tuple and len(target) == 2 and target[0] == "local":
        return Atom(target[1])
    if type(target) is tuple and len(target) == 2 and target[0] == "global":
        name = target[1]
        return Atom("global"), Atom(name) if isinstance(name, str) else name
    if is_at_node(target):
        return Atom(target[0]), Atom(target[1])
    return Atom(target) if isinstance(target, str) else target
