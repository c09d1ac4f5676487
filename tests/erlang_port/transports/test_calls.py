import asyncio

import pytest

from erlang_port.etf import decode
from erlang_port.messages import Call
from erlang_port.transports.calls import (
    MAX_CALL_BYTES,
    MAX_HANDLERS,
    MAX_WAITING,
    CallError,
    IncomingCalls,
)


class Calls:
    """Calls of numbered ids to a handler that waits until it is let go."""

    def __init__(self):
        self.answers = {}
        self.begun = []
        self.changed = asyncio.Event()
        self.go = asyncio.Event()
        self.incoming = IncomingCalls(self.answered)
        self.incoming.register(b"wait", self.wait)
        self.ids = iter(range(10**9))

    def answered(self, reply):
        assert reply.id not in self.answers
        answer = decode(reply.answer)
        self.answers[reply.id] = answer if reply.ok else answer[0]
        self.changed.set()

    async def wait(self, request):
        self.begun.append(request)
        await self.go.wait()
        return request

    def call(self, count, *, name=b"wait", size=100, timeout_ms=5000):
        ids = [next(self.ids) for _ in range(count)]
        for call_id in ids:
            self.incoming.take(Call(call_id, name, call_id, timeout_ms), size)
        return ids

    async def until(self, count):
        async with asyncio.timeout(5):
            while len(self.answers) < count:
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
async def calls():
    calls = Calls()
    yield calls
    calls.incoming.cancel()


async def turn():
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_thousand_calls_at_once_are_all_answered_a_bounded_number_at_a_time(calls):
    ids = calls.call(1000)
    await turn()
    assert len(calls.begun) == MAX_HANDLERS
    assert len(calls.incoming) == 1000
    calls.go.set()
    await calls.until(1000)
    assert calls.begun == ids
    assert calls.answers == {n: n for n in ids}
    await turn()
    assert len(calls.incoming) == 0


async def test_more_than_may_wait_is_refused_at_once(calls):
    calls.call(MAX_HANDLERS)
    calls.call(MAX_WAITING)
    (late,) = calls.call(1)
    assert calls.answers == {late: "overload"}


async def test_the_bytes_of_calls_are_bounded_and_one_is_always_taken(calls):
    (first,) = calls.call(1, size=2 * MAX_CALL_BYTES)
    (second,) = calls.call(1, size=1)
    assert calls.answers == {second: "overload"}
    calls.go.set()
    await calls.until(2)
    await turn()
    (third,) = calls.call(1, size=MAX_CALL_BYTES)
    await calls.until(3)
    assert (calls.answers[first], calls.answers[third]) == (first, third)


async def test_a_call_whose_time_is_over_before_its_turn_is_never_begun(calls):
    calls.call(MAX_HANDLERS, timeout_ms=60_000)
    late = calls.call(3, timeout_ms=1)
    in_time = calls.call(1)
    await asyncio.sleep(0.01)
    calls.go.set()
    await calls.until(MAX_HANDLERS + 4)
    assert [calls.answers[n] for n in late] == ["timeout"] * 3
    assert not set(late) & set(calls.begun)
    assert calls.answers[in_time[0]] == in_time[0]


async def test_a_handler_is_cancelled_at_its_deadline(calls):
    ids = calls.call(1, timeout_ms=20)
    await calls.until(1)
    assert calls.begun == ids
    assert calls.answers == {ids[0]: "timeout"}


async def test_the_longest_time_that_can_be_said_is_a_time(calls):
    calls.go.set()
    (call_id,) = calls.call(1, timeout_ms=10**400)
    await calls.until(1)
    assert calls.answers == {call_id: call_id}


async def test_what_a_handler_raises_is_the_answer(calls, caplog):
    async def refuse(_):
        raise CallError("refused", "never")

    async def crash(_):
        raise ZeroDivisionError("not for the caller")

    async def no_term(_):
        return object()

    for handler in (refuse, crash, no_term):
        calls.incoming.register(handler.__name__.encode(), handler)
    ids = [calls.call(1, name=name)[0] for name in (b"refuse", b"crash", b"no_term", b"nobody")]
    await calls.until(4)
    assert [calls.answers[n] for n in ids] == ["refused", "crash", "crash", "noproc"]
    assert "a call to crash failed" in caplog.text


async def test_cancelled_calls_are_not_answered(calls):
    calls.call(MAX_HANDLERS + 10)
    await turn()
    calls.incoming.cancel()
    await turn()
    assert calls.answers == {}
    assert len(calls.incoming) == 0
