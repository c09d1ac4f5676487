"""A stand-in for the connection to a node, which notes what goes out, and what goes with it.

It stands for `erlang_port.otp.remote.Port` in tests of what this end does; what a real node makes
of it is shown by tests/e2e/test_servers.py and test_stampede.py.
"""

import asyncio

from erlang_port.etf import decode, encode
from erlang_port.messages import Signal

PROXY = 1_000_000


def pid(number):
    """A pid of the node's."""
    return decode(b"\x83Xw\x03n@h" + number.to_bytes(4) + bytes(8))


class PortStandIn:
    """Notes signals; has the node answer calls at once, or when the test says so.

    Attributes:
        sent: `{Process, Kind, Ref, Term}`, as the node would see them.
        undecoded: As `PortConnection` counts what it cannot read.
        calls: `{Name, Request, Timeout}`.
        held: While it is set, calls are answered by `release`.
        answer: What the node answers to a request, or raises.
        loses: Kinds of signals for which there is no room.
    """

    def __init__(self):
        self.sent = []
        self.calls = []
        self.undecoded = 0
        self.held = False
        self.answer = self.proxies
        self.loses = set()
        self._released = asyncio.Event()

    @staticmethod
    def proxies(request):
        """As the node does it: proxies are `pid(PROXY + Process)`."""
        kind, process, _names = request
        assert kind == "start"
        return pid(PROXY + process)

    def send_signals(self, signals):
        assert signals
        lost = [s for s in signals if s.kind in self.loses]
        self.sent += [
            (s.process, s.kind, s.ref, decode(s.payload)) for s in signals if s not in lost
        ]
        return lost

    async def call(self, name, request, timeout):
        self.calls.append((name, request, timeout))
        if self.held:
            await self._released.wait()
        return self.answer(request)

    def release(self):
        self._released.set()

    def of(self, process):
        """What a process has sent."""
        return [signal[1:] for signal in self.sent if signal[0] == process.id]


def idle(runtime):
    return runtime.idle("idle")


def nothing_left(node):
    """Whether the node knows of nobody any more."""
    proxies = node._proxies
    kept = (proxies._pids, proxies._waiting, proxies._starting, node._monitors, node._numbers)
    return not any(kept) and not node._outgoing and not proxies._waiting_bytes


def take(node, process, kind, term, ref=0):
    """Has a signal of the node's come."""
    node.take([Signal(process.id, kind, ref, encode(term))])


SOMEBODY = pid(1)
