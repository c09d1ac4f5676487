import asyncio
import os
import shutil
import signal
from collections import deque
from typing import TYPE_CHECKING

import pytest

from bridge.fanout import worker_process, worker_slot
from bridge.fanout.worker_slot import Failure, Task, WorkerSlot
from erlang_port.otp import gen_server, supervisor
from erlang_port.otp.supervisor import Flags, Tree
from tests.bridge.fanout.conftest import a_batch
from tests.bridge.waiting import until
from tests.support.processes import alive, children

if TYPE_CHECKING:
    from erlang_port.otp.process import Process


class ATask:
    def __init__(self, template: str, timeout: float = 20.0) -> None:
        self.payload = a_batch("b", 0, template).payload
        self.timeout = timeout
        self.outcome: str | None = None

    def answered(self, payload: bytes, seconds: float) -> None:
        assert self.outcome is None
        assert payload
        assert seconds > 0
        self.outcome = "answered"

    def failed(self, reason: Failure) -> None:
        assert self.outcome is None
        self.outcome = reason


class Source:
    def __init__(self, *tasks: Task) -> None:
        self.tasks = deque(tasks)
        self.returned: list[Task] = []

    def next_task(self) -> asyncio.Future[Task]:
        self.wish: asyncio.Future[Task] = asyncio.get_running_loop().create_future()
        if self.tasks:
            self.wish.set_result(self.tasks.popleft())
        return self.wish

    def give(self, task: Task) -> None:
        self.wish.set_result(task)

    def give_back(self, task: Task) -> None:
        self.returned.append(task)


class Running:
    """A slot under a supervisor, as the pool has it."""

    def __init__(self, *tasks: Task) -> None:
        self.source = Source(*tasks)
        self.replaced = 0
        self.slot = WorkerSlot(0, 256 * 1024 * 1024, self.source, self._replace)
        self.supervisor: Process | None = None

    def _replace(self) -> None:
        self.replaced += 1

    async def start(self) -> None:
        self.supervisor = await supervisor.start_link(Tree("s", Flags(), [self.slot.child()]))

    async def stop(self) -> None:
        await gen_server.stop(self.supervisor, "shutdown")


async def running(*tasks: Task) -> Running:
    started = Running(*tasks)
    await started.start()
    return started


async def test_a_worker_does_one_task_after_the_other() -> None:
    tasks = [ATask("{{ user }}") for _ in range(3)]
    place = await running(*tasks)
    await until(lambda: place.slot.batches == 3)
    await until(lambda: place.slot.state == "idle")
    assert [task.outcome for task in tasks] == ["answered"] * 3
    pid = place.slot.pid
    assert pid is not None
    await place.stop()
    assert (place.slot.state, place.slot.pid, place.slot.restarts) == ("starting", None, 0)
    assert not alive(pid)


async def test_a_task_that_takes_too_long_costs_its_worker() -> None:
    tasks = [ATask("{{ 9**(9**9) }}", 0.2), ATask("{{ user }}")]
    place = await running(*tasks)
    await until(lambda: place.slot.state == "busy")
    first = place.slot.pid
    await until(lambda: tasks[1].outcome)
    assert [task.outcome for task in tasks] == ["timeout", "answered"]
    assert (place.slot.restarts, place.replaced) == (1, 1)
    assert first is not None
    assert not alive(first)
    await place.stop()


async def test_a_task_whose_worker_is_killed_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    task = ATask("{{ 9**(9**9) }}")
    place = await running(task)
    await until(lambda: place.slot.state == "busy")
    assert place.slot.pid is not None
    os.kill(place.slot.pid, signal.SIGKILL)
    await until(lambda: task.outcome == "crash", timeout=2)
    await until(lambda: "child worker-0 ended: exit status 137" in caplog.text, timeout=2)
    await place.stop()


async def test_a_stop_gives_the_task_back() -> None:
    task = ATask("{{ 9**(9**9) }}")
    place = await running(task)
    await until(lambda: place.slot.state == "busy")
    await place.stop()
    assert task.outcome is None
    assert place.source.returned == [task]


async def test_one_that_sends_more_than_it_was_asked_is_of_no_more_use(
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = await running()
    await until(lambda: place.slot.state == "idle")
    first = place.slot.pid
    task = ATask("{{ user }}")
    assert place.slot._worker is not None
    place.slot._worker._link.data_received(b"\0\0\0\1x")
    place.source.give(task)
    await until(lambda: task.outcome == "crash", timeout=2)
    await until(lambda: place.slot.pid not in {first, None})
    assert "child worker-0 ended: it sent more than it was asked" in caplog.text
    await place.stop()


async def test_one_that_ends_before_its_hello_says_its_status(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_process.sys, "executable", shutil.which("false"))
    place = await running()
    await until(lambda: place.slot.error == "ended before its hello")
    await until(lambda: "child worker-0 ended: exit status 1" in caplog.text)
    assert (place.slot.restarts, place.slot.pid) == (0, None)
    await place.stop()


async def test_one_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_slot, "START_TIMEOUT", 0.001)
    place = await running()
    await until(lambda: place.slot.error == "said no hello within 0.001 s")
    monkeypatch.undo()
    await until(lambda: place.slot.state == "idle")
    assert place.slot.error is None
    await place.stop()


async def test_one_that_ends_by_itself_is_waited_for() -> None:
    place = await running()
    await until(lambda: place.slot.pid)
    os.kill(place.slot.pid, signal.SIGKILL)
    await until(lambda: place.slot.error == "ends by itself", timeout=2)
    await until(lambda: place.slot.state == "idle")
    assert place.slot.restarts == 1
    await place.stop()


async def test_a_worker_that_cannot_start_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process.sys, "executable", "/nonexistent/python")
    place = await running()
    assert place.slot.error == "cannot be started: No such file or directory"
    monkeypatch.undo()
    await until(lambda: place.slot.state == "idle")
    assert place.slot.restarts == 0
    await place.stop()


@pytest.mark.parametrize("delay", [0, 0.001, 0.01, 0.05])
async def test_a_stop_at_any_time_leaves_no_process(delay: float) -> None:
    before = set(children(os.getpid()))
    place = await running()
    await asyncio.sleep(delay)
    await place.stop()
    assert set(children(os.getpid())) <= before
