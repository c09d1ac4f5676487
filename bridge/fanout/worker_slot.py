"""A place in the pool: keeps one worker alive and gives it one task at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final, Literal, Protocol

from bridge.fanout.worker_process import WorkerError, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from erlang_port.otp.coroutine_child import Started

#: Seconds of waiting before a worker is started again that could not start, or ended by itself
#: right after: the first time, and the longest of the times after, each twice the one before. A
#: worker that ends at its work is replaced at once.
BACKOFF_FIRST: Final = 0.1
BACKOFF_LONGEST: Final = 10.0

#: Seconds that a worker must live for its end not to count as a failure to start.
STABLE: Final = 1.0

State = Literal["starting", "idle", "busy"]
Failure = Literal["timeout", "crash"]

_logger = logging.getLogger("megaphone.workers")


class Task(Protocol):
    """Something for a worker to do; exactly one of its methods is called, once."""

    payload: bytes
    timeout: float

    def answered(self, payload: bytes, seconds: float) -> None:
        """Take the worker's answer, and the time it took."""

    def failed(self, reason: Failure) -> None:
        """Learn that the worker was killed at the deadline, or died of something else."""


class TaskSource(Protocol):
    """Where tasks come from."""

    def next_task(self) -> asyncio.Future[Task]:
        """Give the next task as soon as there is one; cancelling the future takes the wish back."""

    def give_back(self, task: Task) -> None:
        """Take a task back that was not begun."""


class WorkerSlot:
    """Keeps a worker.

    Attributes:
        name: which place it is.
        state: starting (or waiting to start again), idle or busy.
        pid: the worker's process id, or None while there is none.
        since: when it was started, by the monotonic clock; None while there is none.
        batches: tasks answered since this slot began.
        restarts: workers that were replaced.
        error: why the last attempts failed, once there were several in a row; else None.
    """

    def __init__(
        self,
        number: int,
        memory_limit: int,
        tasks: TaskSource,
        replaced: Callable[[], None],
    ) -> None:
        self.name = f"worker-{number}"
        self.state: State = "starting"
        self.pid: int | None = None
        self.since: float | None = None
        self.batches = 0
        self.restarts = 0
        self.error: str | None = None
        self._memory_limit = memory_limit
        self._tasks = tasks
        self._replaced = replaced
        self._failures = 0

    async def run(self, started: Started) -> None:
        """Keep a worker until cancelled; whether one can be started is not for the supervisor."""
        started()
        while True:
            try:
                worker = await WorkerProcess.start(self._memory_limit)
            except WorkerError as error:
                await self._back_off(str(error))
                continue
            self.pid = worker.pid
            self.since = time.monotonic()
            try:
                reason = await self._serve(worker)
            finally:
                self.state = "starting"
                self.pid = self.since = None
                await worker.end()
            self.restarts += 1
            self._replaced()
            if reason is not None:
                await self._back_off(reason)

    async def _serve(self, worker: WorkerProcess) -> str | None:
        """Give the worker tasks until it ends; what is wrong if it ended too soon."""
        began = time.monotonic()
        while True:
            self.state = "idle"
            task = await self._next_task(worker)
            if task is None:
                _logger.warning("worker %d ended while it was idle", worker.pid)
                return None if time.monotonic() - began > STABLE else "ends by itself"
            self.state = "busy"
            if not await self._do(worker, task):
                return None
            self.batches += 1
            self._failures = 0
            self.error = None

    async def _next_task(self, worker: WorkerProcess) -> Task | None:
        wanted = self._tasks.next_task()
        try:
            waiting: set[asyncio.Future[Task] | asyncio.Future[None]] = {wanted, worker.ended}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not worker.ended.done():
                return wanted.result()
        except asyncio.CancelledError:
            self._take_back(wanted)
            raise
        self._take_back(wanted)
        return None

    def _take_back(self, wanted: asyncio.Future[Task]) -> None:
        if not wanted.cancel():
            self._tasks.give_back(wanted.result())

    async def _do(self, worker: WorkerProcess, task: Task) -> bool:
        """Have a task done; False when the worker is of no more use."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(task.timeout):
                answer = await worker.ask(task.payload)
        except TimeoutError:
            stopped = worker.stopped()
            worker.kill()
            what = "was stopped and " if stopped else ""
            _logger.warning("worker %d %swas killed after %g s", worker.pid, what, task.timeout)
            task.failed("crash" if stopped else "timeout")
            return False
        except WorkerError as error:
            _logger.warning("worker %d is gone: %s", worker.pid, error)
            task.failed("crash")
            return False
        except asyncio.CancelledError:
            self._tasks.give_back(task)
            raise
        task.answered(answer, time.monotonic() - began)
        return True

    async def _back_off(self, reason: str) -> None:
        self._failures += 1
        if self._failures == 1:
            _logger.warning("worker: %s", reason)
        else:
            if self.error is None:
                _logger.error("worker cannot be kept running, trying on: %s", reason)
            self.error = reason
        await asyncio.sleep(min(BACKOFF_FIRST * 2 ** min(self._failures - 1, 16), BACKOFF_LONGEST))
