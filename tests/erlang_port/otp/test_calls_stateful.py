"""Calls under servers that answer late, twice, for each other, or die: whose answer is whose.

No reply is ever given to the wrong caller, and none twice: each call ends once, with its own answer
or with its own server's end.
"""

import asyncio
from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from erlang_port.etf import Atom
from erlang_port.otp import gen_server
from erlang_port.otp.gen_server import Exit, GenServer, NoReply, Ok, Reply, Stop, StopReply
from erlang_port.otp.reasons import KILLED

PENDING = "pending"
#: A call that was under way when its server was killed: it may have been answered just before.
EITHER = "either"

SERVERS = st.integers(0, 2)


class Clerk(GenServer[None]):
    """Does with a call what it says; everybody's callers are in `callers`, by token."""

    def __init__(self, callers):
        self.callers = callers

    def init(self, _args):
        return Ok(None)

    def handle_call(self, message, from_, state):
        how, token, *more = message
        self.callers[token] = from_
        match how:
            case "answer":
                return Reply(("answer", token), state)
            case "twice":
                gen_server.reply(from_, ("answer", token))
                return Reply(("again", token), state)
            case "keep":
                return NoReply(state)
            case "slow":
                return self.slowly(token, state)
            case "pass_on":
                gen_server.cast(more[0], token)
                return NoReply(state)
            case "stop_and_answer":
                return StopReply(Atom("stopped"), ("answer", token), state)
        return Stop(Atom("stopped"), state)

    async def slowly(self, token, state):
        for _ in range(3):
            await asyncio.sleep(0)
        return Reply(("answer", token), state)

    def handle_cast(self, message, state):
        gen_server.reply(self.callers[message], ("passed_on", message))
        return NoReply(state)


class Calls(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.callers = {}
        self.servers = []
        # What waits for each server, and what is to become of each call.
        self.waiting = [deque() for _ in range(3)]
        self.requests = {}
        self.called = {}
        self.expected = {}

    def teardown(self):
        self.do(self.kill_all())
        self.loop.close()

    def do(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    async def kill_all(self):
        for server in self.servers:
            server.exit("kill")
        await asyncio.sleep(0)

    @initialize()
    def start_all(self):
        self.servers = [self.do(gen_server.start(Clerk(self.callers))) for _ in range(3)]

    @rule(
        number=SERVERS,
        how=st.sampled_from(["answer", "twice", "keep", "slow", "stop", "stop_and_answer"]),
    )
    def call(self, number, how):
        self.send(number, how)

    def send(self, number, how, *more):
        token = len(self.requests)

        async def send():
            alive = self.servers[number].alive
            return alive, gen_server.send_request(self.servers[number], (how, token, *more))

        alive, self.requests[token] = self.do(send())
        self.called[token] = number
        self.expected[token] = PENDING
        if alive:
            self.waiting[number].append((how, token))
        else:
            self.expected[token] = "noproc"

    @rule(number=SERVERS, other=SERVERS)
    def call_that_is_passed_on(self, number, other):
        self.settle()
        passes = self.servers[number].alive and self.servers[other].alive
        self.send(number, "pass_on", self.servers[other])
        self.settle()
        if passes:
            self.end(len(self.requests) - 1, ("passed_on", len(self.requests) - 1))

    @rule(data=st.data(), times=st.integers(1, 2))
    @precondition(lambda self: self.callers)
    def reply(self, data, times):
        self.settle()
        token = data.draw(st.sampled_from(sorted(self.callers)))
        for n in range(times):
            gen_server.reply(self.callers[token], ("late", token, n))
        self.end(token, ("late", token, 0))

    @rule(number=SERVERS, steps=st.integers(0, 4))
    def kill(self, number, steps):
        """Anywhere in what it does: `steps` turns of the loop after what was sent last."""
        self.do(turns(steps))
        self.servers[number].exit("kill")
        for _, token in self.waiting[number]:
            if self.expected[token] == PENDING:
                self.expected[token] = EITHER
        self.waiting[number].clear()
        self.server_ended(number, KILLED)

    @rule(number=SERVERS)
    def start_again(self, number):
        self.settle()
        if not self.servers[number].alive:
            self.servers[number] = self.do(gen_server.start(Clerk(self.callers)))

    @rule(data=st.data())
    @precondition(lambda self: self.requests)
    def give_up(self, data):
        """Want no answer after all; the answer that comes is dropped."""
        self.settle()
        token = data.draw(st.sampled_from(sorted(self.requests)))
        request = self.requests[token]
        if not request.answered:
            with pytest.raises(Exit, match="timeout"):
                self.do(request.response(0))
            self.end(token, "timeout")

    @rule()
    def settle(self):
        """Everything that was sent is done."""
        self.do(self.idle())
        for number, waiting in enumerate(self.waiting):
            while waiting:
                how, token = waiting.popleft()
                if how in {"answer", "twice", "slow", "stop_and_answer"}:
                    self.end(token, ("answer", token))
                if how in {"stop", "stop_and_answer"}:
                    waiting.clear()
                    self.server_ended(number, "stopped")

    async def idle(self):
        while any(s.alive and (s.mailbox or s._scheduled) for s in self.servers):
            await turns(1)
        await asyncio.sleep(0)

    def end(self, token, how):
        """The first end of a call counts."""
        if self.expected[token] == PENDING:
            self.expected[token] = how

    def server_ended(self, number, reason):
        for token, called in self.called.items():
            if called == number:
                self.end(token, reason)

    @invariant()
    def each_has_its_own(self):
        for token, request in self.requests.items():
            expected = self.expected[token]
            if request.answered:
                self.check(token, request, expected)
            else:
                # What has been sent is not done yet.
                assert expected == PENDING

    def check(self, token, request, expected):
        error = request._answer.exception()
        got = request._answer.result() if error is None else error.reason[0]
        if expected == EITHER:
            assert got in {("answer", token), KILLED, "stopped"}
            self.expected[token] = got
        elif expected != PENDING:
            assert got == expected
        elif error is None:
            # Sent, and done before `settle` has said so.
            assert got == ("answer", token)


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
