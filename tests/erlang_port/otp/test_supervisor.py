import asyncio
import logging

import pytest

from erlang_port.otp.supervisor import (
    BRUTAL_KILL,
    ChildError,
    ChildSpec,
    IntensityExceeded,
    StartError,
    Supervisor,
)


class Probe:
    """Children that record what happens to them and end when told."""

    def __init__(self):
        self.events = []
        self.fates = {}
        self.changed = asyncio.Event()
        self.mark = 0

    def note(self, what):
        self.events.append(what)
        self.changed.set()

    def child(self, name, **options):
        async def run(started):
            fate = self.fates[name] = asyncio.get_running_loop().create_future()
            started()
            self.note(f"+{name}")
            try:
                await fate
            finally:
                self.note(f"-{name}")

        return ChildSpec(name, run, **options)

    async def until(self, *events):
        async with asyncio.timeout(5):
            while self.events[self.mark :] != list(events):
                self.changed.clear()
                await self.changed.wait()

    def end(self, name):
        self.mark = len(self.events)
        self.fates[name].set_result(None)

    def crash(self, name):
        self.mark = len(self.events)
        self.fates[name].set_exception(ValueError(name))


@pytest.fixture
async def probe():
    return Probe()


async def start(supervisor):
    ready = asyncio.Event()
    task = asyncio.create_task(supervisor.run(ready.set))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED, timeout=5)
    waiting.cancel()
    return task


async def turn():
    """Lets everything that is ready on the loop run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def stop(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_children_start_in_order_and_stop_in_reverse(probe):
    task = await start(Supervisor("s", [probe.child(name) for name in "abc"]))
    assert probe.events == ["+a", "+b", "+c"]
    await stop(task)
    assert probe.events[3:] == ["-c", "-b", "-a"]


@pytest.mark.parametrize(
    ("strategy", "after"),
    [
        ("one_for_one", ["-b", "+b"]),
        ("one_for_all", ["-b", "-c", "-a", "+a", "+b", "+c"]),
        ("rest_for_one", ["-b", "-c", "+b", "+c"]),
    ],
)
async def test_strategies(probe, strategy, after):
    supervisor = Supervisor("s", [probe.child(name) for name in "abc"], strategy=strategy)
    task = await start(supervisor)
    probe.crash("b")
    await probe.until(*after)
    assert probe.events == ["+a", "+b", "+c", *after]
    assert supervisor.count_children() == (3, 3)
    await stop(task)


@pytest.mark.parametrize(
    ("restart", "normal", "crashed"),
    [("permanent", True, True), ("transient", False, True), ("temporary", False, False)],
)
async def test_restart_types(probe, restart, normal, crashed):
    supervisor = Supervisor("s", [probe.child("a", restart=restart), probe.child("z")], intensity=9)
    task = await start(supervisor)
    probe.end("a")
    await probe.until(*(["-a", "+a"] if normal else ["-a"]))
    await stop(task)
    other = Probe()
    supervisor = Supervisor("s", [other.child("a", restart=restart), other.child("z")], intensity=9)
    task = await start(supervisor)
    other.crash("a")
    await other.until(*(["-a", "+a"] if crashed else ["-a"]))
    await turn()
    info = {child.id: (child.running, child.restarts) for child in supervisor.which_children()}
    # A temporary child is forgotten when it ends.
    assert info.get("a") == {"permanent": (True, 1), "transient": (True, 1)}.get(restart)
    await stop(task)


async def test_too_many_restarts_end_the_supervisor_and_all_children(probe):
    supervisor = Supervisor("s", [probe.child("a"), probe.child("b")], intensity=2, period=60)
    task = await start(supervisor)
    for _ in range(2):
        probe.crash("b")
        await probe.until("-b", "+b")
    probe.crash("b")
    with pytest.raises(IntensityExceeded, match="more than 2 restarts in 60 s"):
        await asyncio.wait_for(task, 5)
    assert probe.events[-1] == "-a"
    assert supervisor.count_children().active == 0


async def test_too_many_restarts_are_logged_while_all_children_still_run(probe):
    class Handler(logging.Handler):
        def emit(self, record):
            if record.levelno == logging.CRITICAL:
                probe.note(record.getMessage())

    handler = Handler()
    logging.getLogger("erlang_port.otp.supervisor").addHandler(handler)
    try:
        task = await start(Supervisor("s", [probe.child("a"), probe.child("b")], intensity=0))
        probe.crash("b")
        with pytest.raises(IntensityExceeded) as raised:
            await asyncio.wait_for(task, 5)
    finally:
        logging.getLogger("erlang_port.otp.supervisor").removeHandler(handler)
    assert probe.events[2:] == ["-b", str(raised.value), "-a"]


async def test_a_child_that_cannot_start_stops_those_before_it(probe):
    async def broken(_):
        raise OSError("no port")

    task = await start(Supervisor("s", [probe.child("a"), ChildSpec("b", broken)]))
    with pytest.raises(StartError, match="b ended before it had started: OSError"):
        await task
    assert probe.events == ["+a", "-a"]


async def test_a_restart_that_fails_counts_as_another():
    attempts = []
    ended = asyncio.Event()

    async def once(started):
        attempts.append(1)
        if len(attempts) > 1:
            raise OSError("gone")
        started()
        await ended.wait()

    task = await start(Supervisor("s", [ChildSpec("a", once)], intensity=3, period=60))
    ended.set()
    with pytest.raises(IntensityExceeded):
        await asyncio.wait_for(task, 5)
    assert len(attempts) == 4


async def test_a_supervisor_is_a_child_and_its_end_is_its_parents_concern(probe):
    inner = Supervisor("inner", [probe.child("x")], intensity=0)
    outer = Supervisor("outer", [probe.child("a"), ChildSpec("inner", inner.run)], intensity=1)
    task = await start(outer)
    probe.crash("x")
    await probe.until("-x", "+x")
    assert not task.done()
    await stop(task)


async def test_a_child_that_does_not_stop_is_left_behind_after_its_time(probe):
    release = asyncio.Event()

    async def stubborn(started):
        started()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                probe.note("ignored")

    for shutdown in (0.02, BRUTAL_KILL):
        task = await start(Supervisor("s", [ChildSpec("a", stubborn, shutdown=shutdown)]))
        async with asyncio.timeout(2):
            await stop(task)
    release.set()
    await asyncio.sleep(0)


def test_ids_are_unique(probe):
    with pytest.raises(ValueError, match="one id"):
        Supervisor("s", [probe.child("a"), probe.child("a")])


async def test_siblings_are_restarted_as_their_restart_types_say(probe):
    # Supervisor(3): a temporary child is never restarted, even where a sibling's end is its own;
    # a transient one that has ended is started again with its siblings.
    supervisor = Supervisor(
        "s",
        [
            probe.child("temporary", restart="temporary"),
            probe.child("transient", restart="transient"),
            probe.child("permanent"),
        ],
        strategy="one_for_all",
    )
    task = await start(supervisor)
    probe.end("transient")
    await probe.until("-transient")
    probe.crash("permanent")
    await probe.until("-permanent", "-temporary", "+transient", "+permanent")
    assert [child.id for child in supervisor.which_children()] == ["transient", "permanent"]
    await stop(task)


async def test_a_restart_that_fails_goes_on_with_the_child_that_failed(probe):
    attempts = []

    async def second_time_lucky(started):
        attempts.append(1)
        if len(attempts) == 2:
            raise OSError("not yet")
        started()
        probe.note("+c")
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            probe.note("-c")

    children = [probe.child("a"), probe.child("b"), ChildSpec("c", second_time_lucky)]
    supervisor = Supervisor("s", children, strategy="rest_for_one", intensity=2, period=60)
    task = await start(supervisor)
    probe.crash("b")
    await probe.until("-b", "-c", "+b", "+c")
    assert len(attempts) == 3
    await stop(task)


async def test_a_child_is_terminated_and_started_again(probe):
    supervisor = Supervisor("s", [probe.child(name) for name in "ab"], intensity=0)
    task = await start(supervisor)
    await supervisor.terminate_child("a")
    assert probe.events == ["+a", "+b", "-a"]
    assert supervisor.count_children() == (2, 1)
    await supervisor.terminate_child("a")
    await supervisor.restart_child("a")
    await probe.until("+a", "+b", "-a", "+a")
    assert supervisor.count_children() == (2, 2)
    # It was no restart: the intensity of 0 still holds.
    assert supervisor.which_children()[0].restarts == 0
    assert not task.done()
    await stop(task)


async def test_what_cannot_be_terminated_or_started_again(probe):
    supervisor = Supervisor("s", [probe.child("a"), probe.child("t", restart="temporary")])
    with pytest.raises(ChildError, match="noproc"):
        await supervisor.terminate_child("a")
    task = await start(supervisor)
    with pytest.raises(ChildError, match="running: a"):
        await supervisor.restart_child("a")
    with pytest.raises(ChildError, match="not_found: x"):
        await supervisor.terminate_child("x")
    await supervisor.terminate_child("t")
    with pytest.raises(ChildError, match="not_found: t"):
        await supervisor.restart_child("t")
    await stop(task)
    with pytest.raises(ChildError, match="noproc"):
        await supervisor.restart_child("a")


async def test_a_child_that_cannot_be_started_again_is_its_callers_concern(probe):
    works = True

    async def run(started):
        if not works:
            raise OSError("gone")
        started()
        await asyncio.get_running_loop().create_future()

    supervisor = Supervisor("s", [ChildSpec("a", run), probe.child("b")])
    task = await start(supervisor)
    await supervisor.terminate_child("a")
    works = False
    with pytest.raises(StartError, match="gone"):
        await supervisor.restart_child("a")
    assert not task.done()
    await stop(task)


async def test_the_only_child_may_be_terminated_and_the_supervisor_stays(probe):
    supervisor = Supervisor("s", [probe.child("a")])
    task = await start(supervisor)
    await supervisor.terminate_child("a")
    await turn()
    assert not task.done()
    await supervisor.restart_child("a")
    await stop(task)
    assert probe.events == ["+a", "-a", "+a", "-a"]


async def test_who_waits_for_a_supervisor_that_ends_is_told(probe):
    release = asyncio.Event()

    async def slow(started):
        started()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await release.wait()

    supervisor = Supervisor("s", [ChildSpec("a", slow), probe.child("b")])
    task = await start(supervisor)
    first = asyncio.create_task(supervisor.terminate_child("a"))
    await turn()
    second = asyncio.create_task(supervisor.terminate_child("b"))
    await turn()
    task.cancel()
    await turn()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    with pytest.raises(ChildError, match="noproc"):
        await second
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_supervisor_cancelled_while_it_stops_cancels_who_is_left_at_once(probe):
    async def slow(started):
        started()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            probe.note("-slow")
            await asyncio.sleep(60)

    task = await start(Supervisor("s", [probe.child("a"), ChildSpec("slow", slow, shutdown=60)]))
    task.cancel()
    await probe.until("+a", "-slow")
    task.cancel()
    await probe.until("+a", "-slow", "-a")
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
