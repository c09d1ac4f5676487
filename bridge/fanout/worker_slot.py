"""A place in the pool: what one worker process after the other does there, a task at a time.

Starting them, again and again, is the supervisor's, ending them `erlang_port.otp.os_process`'s; a
slot says what they are, and speaks to them while they live.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final, Literal, Protocol

from bridge.fanout.worker_process import WorkerEndedError, WorkerError, WorkerProcess
from erlang_port.etf import EtfError
from erlang_port.messages import MessageError
from erlang_port.otp.child_spec import BRUTAL_KILL, Backoff
from erlang_port.otp.gen import StartError
from erlang_port.otp.os_process import os_process
from erlang_port.otp.reasons import SHUTDOWN, TIMEOUT, Exit

if TYPE_CHECKING:
    from asyncio.subprocess import Process as Subprocess
    from collections.abc import Callable

    from erlang_port.etf import Term
    from erlang_port.otp.child_spec import ChildSpec

#: Seconds from starting a worker to its hello.
START_TIMEOUT: Final = 15.0

#: How long a worker that ended is waited with. One that ends within a second of its start may do so
#: whatever it is asked.
BACKOFF: Final = Backoff(first=0.1, longest=10.0, stable=1.0)

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
    """What the workers of one place do.

    Attributes:
        name: which place it is.
        state: starting (or waiting to start again), idle or busy.
        pid: the worker's process id, or None while there is none.
        batches: tasks answered since this slot began.
        restarts: workers that were replaced.
        error: why the last one was of no use, until one says hello; None at first.
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
        self.batches = 0
        self.restarts = 0
        self.error: str | None = None
        self._memory_limit = memory_limit
        self._tasks = tasks
        self._replaced = replaced
        self._worker: WorkerProcess | None = None

    def child(self) -> ChildSpec:
        """The place as a supervisor keeps it."""
        return os_process(
            self.name, self._start, body=self._live, shutdown=BRUTAL_KILL, backoff=BACKOFF
        )

    async def _start(self) -> Subprocess:
        try:
            self._worker = await WorkerProcess.spawn(self._memory_limit)
        except WorkerError as error:
            self.error = str(error)
            raise StartError(self.error) from None
        return self._worker.process

    async def _live(self) -> None:
        """Live one worker's life: until it has ended, or is of no more use.

        Raises:
            Exit: It is of no more use.
        """
        worker = self._worker
        assert worker is not None  # noqa: S101  # it has been started
        try:
            await self._greet(worker)
            self.pid = worker.pid
            reason = await self._serve(worker)
            self.restarts += 1
            self._replaced()
        except WorkerEndedError:
            reason = None
        finally:
            self.state = "starting"
            self.pid = None
            worker.close()
        if reason is not None:
            raise Exit(reason)

    async def _greet(self, worker: WorkerProcess) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await worker.hello()
        except TimeoutError:
            self.error = f"said no hello within {START_TIMEOUT:g} s"
            raise Exit(self.error) from None
        except WorkerEndedError:
            self.error = "ended before its hello"
            raise
        except (EtfError, MessageError, WorkerError) as error:
            self.error = f"its first message: {error}"
            raise Exit(self.error) from None
        self.error = None

    async def _serve(self, worker: WorkerProcess) -> Term:
        """Give the worker tasks until it ends (None) or is of no more use: why."""
        began = time.monotonic()
        while True:
            self.state = "idle"
            task = await self._next_task(worker)
            if task is None:
                if time.monotonic() - began < BACKOFF.stable:
                    self.error = "ends by itself"
                return None
            self.state = "busy"
            try:
                await self._do(worker, task)
            except WorkerEndedError:
                return None
            except WorkerError as error:
                return str(error)
            except TimeoutError:
                return SHUTDOWN, TIMEOUT
            self.batches += 1

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

    async def _do(self, worker: WorkerProcess, task: Task) -> None:
        """Have a task done.

        Raises:
            TimeoutError: It took too long.
            WorkerError: The worker ended at it, or is of no more use.
        """
        began = time.monotonic()
        try:
            async with asyncio.timeout(task.timeout):
                answer = await worker.ask(task.payload)
        except TimeoutError:
            stopped = worker.stopped()
            what = "was stopped and " if stopped else ""
            _logger.warning("worker %d %sis killed after %g s", worker.pid, what, task.timeout)
            task.failed("crash" if stopped else "timeout")
            raise
        except WorkerError:
            task.failed("crash")
            raise
        except asyncio.CancelledError:
            self._tasks.give_back(task)
            raise
        task.answered(answer, time.monotonic() - began)
