import asyncio
import os
import signal
from collections import deque

import pytest

from bridge.fanout import worker_process, worker_slot
from bridge.fanout.worker_slot import Failure, Task, WorkerSlot
from tests.bridge.fanout.conftest import a_batch
from tests.bridge.waiting import until


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
        future: asyncio.Future[Task] = asyncio.get_running_loop().create_future()
        if self.tasks:
            future.set_result(self.tasks.popleft())
        return future

    def give_back(self, task: Task) -> None:
        self.returned.append(task)


class Running:
    def __init__(self, *tasks: Task) -> None:
        self.source = Source(*tasks)
        self.replaced = 0
        self.slot = WorkerSlot(0, 256 * 1024 * 1024, self.source, self._replace)
        self._running = asyncio.create_task(self.slot.run(lambda: None))

    def _replace(self) -> None:
        self.replaced += 1

    async def stop(self) -> None:
        self._running.cancel()
        await asyncio.wait({self._running})


async def test_a_worker_does_one_task_after_the_other() -> None:
    tasks = [ATask("{{ user }}") for _ in range(3)]
    running = Running(*tasks)
    await until(lambda: running.slot.batches == 3)
    await until(lambda: running.slot.state == "idle")
    assert [task.outcome for task in tasks] == ["answered"] * 3
    assert running.slot.pid is not None
    await running.stop()
    assert (running.slot.state, running.slot.pid) == ("starting", None)


async def test_a_task_that_takes_too_long_costs_its_worker() -> None:
    tasks = [ATask("{{ 9**(9**9) }}", 0.2), ATask("{{ user }}")]
    running = Running(*tasks)
    await until(lambda: tasks[1].outcome)
    assert [task.outcome for task in tasks] == ["timeout", "answered"]
    assert (running.slot.restarts, running.replaced) == (1, 1)
    await running.stop()


async def test_a_task_whose_worker_is_killed_is_told_so() -> None:
    task = ATask("{{ 9**(9**9) }}")
    running = Running(task)
    await until(lambda: running.slot.state == "busy")
    assert running.slot.pid is not None
    os.kill(running.slot.pid, signal.SIGKILL)
    await until(lambda: task.outcome == "crash", timeout=2)
    await running.stop()


async def test_a_stop_gives_the_task_back() -> None:
    task = ATask("{{ 9**(9**9) }}")
    running = Running(task)
    await until(lambda: running.slot.state == "busy")
    await running.stop()
    assert task.outcome is None
    assert running.source.returned == [task]


async def test_a_worker_that_cannot_start_is_tried_again_ever_more_slowly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    sleep = asyncio.sleep

    async def recorded(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr(worker_process.sys, "executable", "/nonexistent/python")
    monkeypatch.setattr(worker_slot.asyncio, "sleep", recorded)
    running = Running()
    async with asyncio.timeout(20):
        while len(waits) < 10:
            await sleep(0.001)
    await running.stop()
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(waits) == worker_slot.BACKOFF_LONGEST
    assert running.slot.error is not None
    assert "No such file" in running.slot.error
