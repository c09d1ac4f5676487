"""Calls from the node: some are handled at once, some wait, and both are bounded."""

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from erlang_port.etf import EtfError, Term, encode
from erlang_port.messages import Call, ErrorKind, Reply, error_answer

_log = logging.getLogger(__name__)

#: Calls that are handled at once.
MAX_HANDLERS = 64
#: Calls that may wait for one of those to end; beyond it a call is answered with overload.
MAX_WAITING = 1024
#: Bytes of frames of both; one call is always taken, whatever its size. Default 16 MiB.
MAX_CALL_BYTES = 16 * 1024 * 1024
#: The longest that a call may take, milliseconds: a day.
_LONGEST = 24 * 3600 * 1000

Handler = Callable[[Term], Awaitable[Term]]


class CallError(Exception):
    """A call was answered with an error.

    A handler raises it to answer its caller so.

    Attributes:
        kind: overload, timeout, noproc, badarg, refused or crash.
        text: What to say to a person.
    """

    def __init__(self, kind: ErrorKind, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.text = text


class _Waiting(NamedTuple):
    call: Call
    size: int
    #: In the loop's time, counted from the call's arrival.
    deadline: float
    handler: Handler


class IncomingCalls:
    """Hands calls to what is registered under their name.

    Args:
        answer: Takes each answer.
    """

    def __init__(self, answer: Callable[[Reply], None]) -> None:
        self._answer = answer
        self._handlers: dict[bytes, Handler] = {}
        self._waiting: deque[_Waiting] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._bytes = 0

    def __len__(self) -> int:
        """Calls that are not answered yet."""
        return len(self._waiting) + len(self._running)

    def register(self, name: bytes, handler: Handler) -> None:
        """Answer calls to `name`."""
        self._handlers[name] = handler

    def take(self, call: Call, size: int) -> None:
        """Handle a call now, later, or never: then it is answered at once.

        Args:
            call: The call.
            size: Bytes of its frame.
        """
        handler = self._handlers.get(call.name)
        if handler is None:
            self._fail(call, "noproc", f"no {call.name.decode(errors='replace')} here")
        elif len(self._waiting) >= MAX_WAITING:
            self._fail(call, "overload", f"{MAX_WAITING} calls wait already")
        elif self._bytes and self._bytes + size > MAX_CALL_BYTES:
            self._fail(call, "overload", f"{self._bytes} bytes of calls are not answered yet")
        else:
            self._bytes += size
            deadline = _now() + min(call.timeout_ms, _LONGEST) / 1000
            self._waiting.append(_Waiting(call, size, deadline, handler))
            self._begin()

    def cancel(self) -> None:
        """Forget what waits and cancel what runs; nothing of it is answered."""
        while self._waiting:
            self._bytes -= self._waiting.popleft().size
        for task in self._running:
            task.cancel()

    def _begin(self) -> None:
        while self._waiting and len(self._running) < MAX_HANDLERS:
            waiting = self._waiting.popleft()
            task = asyncio.get_running_loop().create_task(self._run(waiting))
            self._running.add(task)
            task.add_done_callback(functools.partial(self._ended, waiting.size))

    def _ended(self, size: int, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._bytes -= size
        self._begin()

    async def _run(self, waiting: _Waiting) -> None:
        call = waiting.call
        try:
            if _now() >= waiting.deadline:
                # A loop that was slow, or handlers that were: nobody wants the answer any more.
                raise TimeoutError
            async with asyncio.timeout_at(waiting.deadline):
                answer = encode(await waiting.handler(call.request))
        except CallError as error:
            self._fail(call, error.kind, error.text)
        except TimeoutError:
            self._fail(call, "timeout", "no answer in time")
        except EtfError as error:
            self._fail(call, "crash", f"the answer is no term: {error.reason}")
        except Exception as error:  # noqa: BLE001  # a handler's bug is its caller's, not the port's
            _log.exception("a call to %s failed", call.name.decode(errors="replace"))
            self._fail(call, "crash", type(error).__name__)
        else:
            self._answer(Reply(call.id, True, answer))

    def _fail(self, call: Call, kind: ErrorKind, text: str) -> None:
        self._answer(Reply(call.id, False, error_answer(kind, text)))


def _now() -> float:
    return asyncio.get_running_loop().time()
