import asyncio
import os
import signal

import pytest

from erlang_port.otp import application, supervisor
from erlang_port.otp.application import (
    Application,
    ApplicationError,
    ApplicationSpec,
    Terminated,
)
from erlang_port.otp.runtime import Runtime
from erlang_port.otp.runtime import self as running
from erlang_port.otp.supervisor import Flags, Tree
from tests.erlang_port.otp.processes import Probe, as_process, turns


class App(Application):
    """Notes what is called."""

    def __init__(self, probe, name):
        self.probe = probe
        self.name = name
        self.top = None

    async def start(self, start_type, args):
        assert start_type == "normal"
        tree = Tree(self.name, Flags(intensity=0), self.probe.children([self.name]))
        self.top = await supervisor.start_link(tree)
        return self.top, args

    def start_phase(self, phase, start_type, args):
        self.probe.note(f"{phase} {args}")

    async def prep_stop(self, state):
        self.probe.note(f"prep_stop {state}")
        return state

    def stop(self, state):
        self.probe.note(f"stop {self.name}")


@pytest.fixture
async def probe():
    return Probe()


def spec(probe, name, needs="", **options):
    return ApplicationSpec(name, App(probe, name), args="s", applications=list(needs), **options)


def refused(error):
    return error.value.reason


@as_process
async def test_start_and_stop(probe):
    application.load(spec(probe, "a", start_phases=[("first", 1), ("second", 2)]))
    assert application.which_applications() == []
    await application.start("a")
    assert probe.events == ["+a", "first 1", "second 2"]
    assert application.which_applications() == ["a"]
    with pytest.raises(ApplicationError) as error:
        await application.start("a")
    assert refused(error) == ("already_started", "a")
    with pytest.raises(ApplicationError) as error:
        application.unload("a")
    assert refused(error) == ("running", "a")
    await application.stop("a")
    assert probe.events[3:] == ["prep_stop s", "-a", "stop a"]
    with pytest.raises(ApplicationError) as error:
        await application.stop("a")
    assert refused(error) == ("not_started", "a")
    await application.ensure_started("a")
    await application.ensure_started("a")
    await application.stop("a")
    application.unload("a")
    assert application.loaded_applications() == []
    assert list(Runtime.here().processes.values()) == [running()]


@as_process
async def test_what_it_needs_is_started_first(probe):
    for one in (spec(probe, "a", "bc"), spec(probe, "b", "d"), spec(probe, "c", "d")):
        application.load(one)
    application.load(ApplicationSpec("d"))
    with pytest.raises(ApplicationError) as error:
        await application.start("a")
    assert refused(error) == ("not_started", "b")
    assert await application.ensure_all_started("a") == ["d", "b", "c", "a"]
    assert application.which_applications() == ["a", "c", "b", "d"]
    assert probe.events == ["+b", "+c", "+a"]
    for name in application.which_applications():
        await application.stop(name)


@as_process
async def test_what_it_needs_may_be_missing_circular_or_fail(probe):
    application.load(spec(probe, "a", "bc"))
    application.load(spec(probe, "b"))
    with pytest.raises(ApplicationError) as error:
        await application.ensure_all_started("a")
    assert refused(error) == ("c", ("not_loaded", "c"))
    assert probe.events == []
    application.load(spec(probe, "c", "d"))
    application.load(spec(probe, "d", "a"))
    with pytest.raises(ApplicationError) as error:
        await application.ensure_all_started("a")
    assert refused(error) == ("circular", ["a", "c", "d", "a"])
    application.unload("d")
    application.load(spec(probe, "d"))
    probe.failures["c"] = ["no port"]
    with pytest.raises(ApplicationError, match="application c did not start: c did not start: no"):
        await application.ensure_all_started("a")
    assert probe.events == [
        *("+b", "+d", "!c"),
        *("prep_stop s", "-d", "stop d"),
        *("prep_stop s", "-b", "stop b"),
    ]
    assert application.which_applications() == []


@as_process
async def test_a_phase_that_fails_stops_what_has_started(probe):
    class Broken(App):
        def start_phase(self, phase, start_type, args):
            raise OSError("no")

    application.load(ApplicationSpec("a", Broken(probe, "a"), start_phases=[("go", None)]))
    with pytest.raises(ApplicationError, match="OSError: no"):
        await application.start("a")
    assert probe.events == ["+a", "-a"]
    assert application.which_applications() == []


@as_process
async def test_a_start_must_give_a_process():
    class Wrong(Application):
        def start(self, start_type, args):
            return 7

    application.load(ApplicationSpec("a", Wrong))
    with pytest.raises(ApplicationError) as error:
        await application.start("a")
    called = (b"test_a_start_must_give_a_process.<locals>.Wrong", "start", ["normal", None])
    assert refused(error) == ("bad_return", (called, b"7"))


@as_process
async def test_the_environment():
    application.set_env("a", "early", 1, persistent=True)
    application.load(ApplicationSpec("a", env={"early": 0, "x": 2}))
    assert application.get_all_env("a") == {"early": 1, "x": 2}
    application.set_env("a", "x", 3)
    assert application.get_env("a", "x") == 3
    application.unset_env("a", "x")
    assert application.get_env("a", "x", "default") == "default"
    assert application.get_env("b", "x") is None
    with pytest.raises(ApplicationError) as error:
        application.load(ApplicationSpec("a"))
    assert refused(error) == ("already_loaded", "a")


@pytest.mark.parametrize(
    ("restart_type", "reason", "others_stay"),
    [
        ("permanent", "normal", False),
        ("transient", "normal", True),
        ("transient", "crash", False),
        ("temporary", "crash", True),
    ],
)
@as_process
async def test_what_the_end_of_one_means_to_the_others(probe, restart_type, reason, others_stay):
    class Single(App):
        async def start(self, start_type, args):
            return await self.probe.child("x").start("x")

    application.load(spec(probe, "a"))
    application.load(ApplicationSpec("x", Single(probe, "x")))
    await application.start("a")
    await application.start("x", restart_type)
    probe.end("x", reason)
    if others_stay:
        await probe.until("-x", "prep_stop None", "stop x")
        await turns()
        assert application.which_applications() == ["a"]
        await application.stop("a")
    else:
        await probe.until("-x", "prep_stop None", "stop x", "prep_stop s", "-a", "stop a")


async def test_run_stops_it_on_sigterm(probe):
    running = asyncio.create_task(application.run(spec(probe, "a")))
    await probe.until("+a")
    await turns()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, 5)
    assert probe.events == ["+a", "prep_stop s", "-a", "stop a"]
    assert application.loaded_applications() == []


async def test_run_stops_it_when_something_is_over(probe):
    over = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(application.run(spec(probe, "a"), over=over))
    await probe.until("+a")
    over.set_result(None)
    await asyncio.wait_for(running, 5)
    assert probe.events[-1] == "stop a"


async def test_run_ends_with_the_application(probe):
    running = asyncio.create_task(application.run(spec(probe, "a")))
    await probe.until("+a")
    await turns()
    probe.end("a")
    with pytest.raises(Terminated, match="application a ended: shutdown"):
        await asyncio.wait_for(running, 5)
    assert probe.news == ["-a", "prep_stop s", "stop a"]


async def test_run_obeys_before_it_has_started(probe):
    cancelled = asyncio.Event()

    class Slow(Application):
        async def start(self, start_type, args):
            probe.note("starting")
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                cancelled.set()

    over = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(application.run(ApplicationSpec("a", Slow), over=over))
    await probe.until("starting")
    over.set_result(None)
    await asyncio.wait_for(running, 5)
    await asyncio.wait_for(cancelled.wait(), 5)


async def test_run_says_why_it_did_not_start(probe):
    probe.failures["a"] = ["no port"]
    with pytest.raises(ApplicationError, match="no port"):
        await application.run(spec(probe, "a"))
