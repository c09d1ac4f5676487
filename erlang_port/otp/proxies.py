"""The proxies that the node has for processes of this runtime: how they start and end.

    none ──a signal to the node, or `expose`──▶ starting ──the node's answer──▶ there ──end──▶ none
                                                  │ signals wait
                                                  └──refused──▶ none, and what waited is lost

A process may end at any of these points. What it has sent by then goes out, as in Erlang, and what
there is of its proxy, or comes to be, ends with the process's reason.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from erlang_port.etf import Atom, Term
from erlang_port.etf import Pid as ErlangPid
from erlang_port.messages import Signal
from erlang_port.otp.outward import encode_outward
from erlang_port.otp.reasons import Exit
from erlang_port.transports.calls import CallError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from erlang_port.otp.process import Process

_log = logging.getLogger("megaphone.otp")

#: The name that answers at the node.
_PROCESSES: Final = "processes"

#: Seconds that the node has to start a proxy.
EXPOSE_TIMEOUT: Final = 5.0
#: Bytes that wait for proxies to be started; what is beyond is lost. Default 16 MiB.
MAX_WAITING: Final = 16 * 1024 * 1024

_NOCONNECTION: Final = Atom("noconnection")


class Proxies:
    """The proxies of one runtime's processes.

    Args:
        call: Calls a name at the node.
        out: Takes a signal that goes out.
        lost: Takes one that does not.
    """

    def __init__(
        self,
        call: Callable[[str, Term, float], Awaitable[Term]],
        out: Callable[[Signal], None],
        lost: Callable[[Signal], None],
    ) -> None:
        self._call = call
        self._out = out
        self._lost = lost
        self._pids: dict[int, ErlangPid] = {}
        # What processes have sent whose proxies are being started.
        self._waiting: dict[int, list[Signal]] = {}
        self._waiting_bytes = 0
        self._starting: set[asyncio.Task[ErlangPid | Exit]] = set()

    def of(self, process: Process) -> ErlangPid | None:
        """The pid of a process's proxy, if it has one."""
        return self._pids.get(process.id)

    async def expose(self, process: Process, names: Sequence[Term]) -> ErlangPid:
        """See `erlang_port.otp.remote.Node.expose`."""
        if process.id in self._pids or process.id in self._waiting:
            raise Exit((Atom("badarg"), b"the process has a proxy already"))
        # Whoever asks may give up, and the process end: the proxy has to end then, too.
        proxy = await asyncio.shield(self._start(process, names))
        if isinstance(proxy, Exit):
            raise proxy
        return proxy

    def send(self, process: Process, signal: Signal) -> None:
        """Have a signal of a process that lives go out, once it has a proxy."""
        number = process.id
        if number in self._pids:
            self._out(signal)
            return
        if number not in self._waiting:
            self._start(process, ())
        if self._waiting_bytes + len(signal.payload) > MAX_WAITING:
            _log.warning("%s: a %s to the node is lost: too much waits", process.label, signal.kind)
            self._lost(signal)
            return
        self._waiting[number].append(signal)
        self._waiting_bytes += len(signal.payload)

    def ended(self, process: Process, reason: Term) -> None:
        """Take the end of a process: it is its proxy's."""
        if self._pids.pop(process.id, None) is not None:
            self._end(process, reason)

    def gone(self, process: Process) -> None:
        """Take the end of a proxy."""
        self._pids.pop(process.id, None)

    def _start(self, process: Process, names: Sequence[Term]) -> asyncio.Task[ErlangPid | Exit]:
        request = (Atom("start"), process.id, [*_scoped(names)])
        self._waiting[process.id] = []
        task = asyncio.get_running_loop().create_task(self._started(process, request))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return task

    async def _started(self, process: Process, request: Term) -> ErlangPid | Exit:
        proxy = await self._ask(process, request)
        waiting = self._waiting.pop(process.id)
        self._waiting_bytes -= sum(len(signal.payload) for signal in waiting)
        if isinstance(proxy, Exit):
            if waiting:
                _log.warning("%s cannot reach the node: %s", process.label, proxy.reason)
            for signal in waiting:
                self._lost(signal)
            return proxy
        for signal in waiting:
            self._out(signal)
        if process.alive:
            self._pids[process.id] = proxy
        else:
            self._end(process, process.exit_reason)
        return proxy

    async def _ask(self, process: Process, request: Term) -> ErlangPid | Exit:
        try:
            pid = await self._call(_PROCESSES, request, EXPOSE_TIMEOUT)
        except CallError as error:
            return Exit((Atom(error.kind), error.text.encode()))
        except TimeoutError:
            # There may be one all the same.
            self._end(process, _NOCONNECTION)
            return Exit(_NOCONNECTION)
        except ConnectionError:
            return Exit(_NOCONNECTION)
        if not isinstance(pid, ErlangPid):
            return Exit((Atom("badarg"), b"the node's answer is no pid"))
        return pid

    def _end(self, process: Process, reason: Term) -> None:
        self._out(Signal(process.id, "exit", 0, encode_outward(reason, self.of)))


def _scoped(names: Sequence[Term]) -> Iterator[tuple[Atom, bytes]]:
    """Names as the node takes them: those that are text, in a registry that is there."""
    for name in names:
        match name:
            case ("local" | "global" as scope, str(text)):
                yield Atom(scope), text.encode()
            case str():
                yield Atom("local"), name.encode()
