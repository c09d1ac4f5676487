"""Timers in Python alone; beside OTP's they are compared in test_compare_gen_server.py."""

import asyncio
import time

import pytest

from erlang_port.otp import timers
from erlang_port.otp.runtime import Runtime, self
from tests.erlang_port.otp.processes import as_process


@as_process
async def test_a_timer_leaves_nothing_at_who_gets_its_message():
    timer = timers.send_after(0.001, self(), "hello")
    assert self()._watchers
    assert await self().receive() == "hello"
    cancelled = timers.start_timer(100.0, self(), "no")
    assert 99 < timers.read_timer(cancelled) <= timers.cancel_timer(cancelled) + 1 < 102
    assert [timers.read_timer(one) for one in (timer, cancelled)] == [None, None]
    assert not {timer, cancelled} & set(self()._watchers or ())


@pytest.mark.parametrize("reason", ["kill", "shutdown"])
async def test_a_timer_for_a_process_ends_with_it(reason):
    process = Runtime.here().idle("one")
    timer = timers.send_after(100.0, process, "hello")
    handle = timer._handle
    process.exit(reason)
    assert handle.cancelled()
    assert timers.cancel_timer(timer) is None


@as_process
async def test_a_timer_for_one_that_has_ended_is_nothing():
    process = Runtime.here().idle("one")
    process.exit("kill")
    timer = timers.send_after(0.001, process, "hello")
    timers.send_after(0.002, self(), "over")
    assert await self().receive() == "over"
    assert timers.read_timer(timer) is None


@as_process
async def test_a_point_in_time():
    timer = timers.start_timer(time.monotonic() + 50, self(), 1, absolute=True)
    assert 49 < timers.cancel_timer(timer) <= 50
    for past in (0.0, -1.0, time.monotonic()):
        timer = timers.start_timer(past, self(), past, absolute=True)
        assert await self().receive() == ("timeout", timer, past)


@as_process
async def test_a_name_is_looked_up_when_the_time_has_come():
    timers.send_after(0.005, "later", "hello")
    Runtime.here().register("later", self())
    assert await self().receive() == "hello"


async def test_the_clock_is_the_loops():
    reached = asyncio.Event()
    handle = timers.call_later(time.monotonic() + 0.005, reached.set, absolute=True)
    assert handle.when() <= asyncio.get_running_loop().time() + 0.005
    await reached.wait()
