"""What gen_statem and gen_fsm are in Python alone; test_compare_gen_statem.py compares with OTP."""

import asyncio
import inspect

import pytest

from erlang_port.etf import Atom
from erlang_port.otp import gen_fsm, gen_statem, sys
from erlang_port.otp.gen_fsm import GenFsm
from erlang_port.otp.gen_statem import (
    STATE_FUNCTIONS,
    Exit,
    GenStatem,
    KeepState,
    KeepStateAndData,
    NextEvent,
    NextState,
    Ok,
    Postpone,
    RepeatState,
    Reply,
    StateTimeout,
)
from erlang_port.otp.statem_timers import Timer
from tests.erlang_port.otp.test_process import end_of


class Door(GenStatem[str, int]):
    callback_mode = STATE_FUNCTIONS

    def __init__(self):
        self.closed = asyncio.Event()

    def init(self, args):
        return Ok("locked", args)

    def locked(self, event_type, content, data):
        if event_type == "cast" and content == data:
            return NextState("open", data, [StateTimeout(0.01)])
        return KeepStateAndData()

    def open(self, event_type, _content, data):
        if event_type == "state_timeout":
            self.closed.set()
            return NextState("locked", data)
        return KeepStateAndData(Postpone())


async def test_the_door_of_the_docstring():
    module = Door()
    door = await gen_statem.start(module, 1234)
    gen_statem.cast(door, 1)
    assert await sys.get_state(door) == ("locked", 1234)
    gen_statem.cast(door, 1234)
    assert (await sys.get_state(door))[0] == "open"
    await module.closed.wait()
    assert await sys.get_state(door) == ("locked", 1234)
    await gen_statem.stop(door)


async def test_a_state_without_its_function():
    class Lost(Door):
        def locked(self, _type, _content, data):
            return NextState("nowhere", data)

    lost = await gen_statem.start(Lost, 1)
    gen_statem.cast(lost, 1)
    gen_statem.cast(lost, 1)
    (tag, kind, _), _ = await end_of(lost)
    assert (tag, kind) == ("python_error", b"AttributeError")


async def test_several_answers_at_once():
    class Last(GenStatem[str, list]):
        def init(self, _args):
            return Ok("a", [])

        def handle_event(self, event_type, content, _state, data):
            match event_type:
                case ("call", from_):
                    data = [*data, from_]
            if content == "last":
                gen_statem.reply([Reply(from_, at) for at, from_ in enumerate(data)])
            return KeepState(data)

    last = await gen_statem.start(Last)
    first = gen_statem.send_request(last, "first")
    assert await gen_statem.call(last, "last") == 1
    assert await first.response(1) == 0


class Chain(GenStatem[str, int]):
    """Has one event lead to the next, in a way of its own, until there are so many."""

    state_enter = True

    def __init__(self, way, events):
        self.way = way
        self.events = events

    def init(self, _args):
        return Ok("a", 0)

    def handle_event(self, event_type, content, state, data):
        if event_type == "enter":
            if self.way == "enter" and 0 < data < self.events:
                return RepeatState(data + 1)
            return KeepStateAndData()
        if data >= self.events:
            return KeepStateAndData()
        if self.way == "enter":
            return RepeatState(data + 1)
        if self.way == "postpone":
            other = "b" if state == "a" else "a"
            if content == "again":
                # It changes the state, so that what is postponed comes again.
                return NextState(other, data + 1, self.next())
            return KeepStateAndData(Postpone())
        return KeepState(data + 1, self.next())

    def next(self):
        if self.way == "state_timeout":
            return StateTimeout(0)
        if self.way == "timeout":
            return gen_statem.Timeout("x", 0)
        return NextEvent(Atom("internal"), "again")


WAYS = ["internal", "state_timeout", "timeout", "enter"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_long_chain_of_events_is_no_recursion(way):
    chain = await gen_statem.start(Chain(way, 20_000))
    gen_statem.cast(chain, "go")
    assert await sys.get_state(chain) == ("a", 20_000)
    chain.exit("kill")


async def test_postponed_again_and_again():
    chain = await gen_statem.start(Chain("postpone", 20_000))
    gen_statem.cast(chain, "postponed")
    gen_statem.cast(chain, "again")
    assert (await sys.get_state(chain))[1] == 20_000
    chain.exit("kill")


@pytest.mark.parametrize("way", WAYS)
async def test_a_chain_without_an_end_keeps_nobody_from_working_and_ends_by_a_signal(way):
    chain = await gen_statem.start(Chain(way, 10**9))
    other = await gen_statem.start(Door, 1)
    gen_statem.cast(chain, "go")
    for _ in range(10):
        assert await sys.get_state(other) == ("locked", 1)
    # As in OTP, no message comes before it.
    with pytest.raises(Exit) as caught:
        await gen_statem.stop(chain, timeout=0.05)
    assert caught.value.reason == "timeout"
    chain.exit("shutdown")
    assert await end_of(chain) == "shutdown"


@pytest.mark.parametrize("reason", ["kill", "shutdown", "by itself"])
async def test_who_ends_leaves_no_timeouts(reason):
    class Waiting(GenStatem[str, int]):
        def init(self, _args):
            return Ok("a", 1, [StateTimeout(100.0), gen_statem.Timeout("x", 200.0)])

        def handle_event(self, _type, _content, _state, _data):
            return gen_statem.Stop()

    loop = asyncio.get_running_loop()
    waiting = await gen_statem.start(Waiting)
    mine = [
        handle
        for handle in loop._scheduled
        if handle._args and isinstance(handle._args[0], Timer) and not handle.cancelled()
    ]
    assert len(mine) == 2
    if reason == "by itself":
        gen_statem.cast(waiting, 1)
    else:
        waiting.exit(reason)
    await end_of(waiting)
    assert all(handle.cancelled() for handle in mine)


class Light(GenFsm[int]):
    def init(self, args):
        return gen_fsm.Ok("off", args)

    def off(self, event, data):
        return gen_fsm.NextState("on" if event == "switch" else "off", data, 0.01)

    def on(self, event, data):
        return gen_fsm.NextState("off" if event == "timeout" else "on", data)

    def on_sync(self, _event, _from, data):
        return gen_fsm.Reply("it is on", "on", data)


async def test_a_state_with_two_functions():
    light = await gen_fsm.start(Light, 1, name="light")
    gen_fsm.send_event("light", "switch")
    assert await gen_fsm.sync_send_event("light", "is it?") == "it is on"
    # The call has ended the timeout.
    assert await sys.get_state(light) == ("on", 1)
    gen_fsm.send_event(light, "timeout")
    assert await sys.get_state(light) == ("off", 1)
    await gen_fsm.stop(light)


@pytest.mark.parametrize(
    ("send", "reason"),
    [
        (gen_fsm.send_all_state_event, "bad_event"),
        (gen_fsm.sync_send_all_state_event, "bad_sync_event"),
        (lambda light, event: light.send(event), "bad_info"),
    ],
)
async def test_what_no_callback_takes_ends_the_machine(send, reason):
    light = await gen_fsm.start(Light, 1)
    if inspect.iscoroutinefunction(send):
        with pytest.raises(Exit, match=reason):
            await send(light, "event")
    else:
        send(light, "event")
    assert await end_of(light) == (reason, "event")
