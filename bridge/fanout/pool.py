"""The pool: workers, what waits for them, and what becomes of batches whose worker ended."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, Final

from bridge import logs
from bridge.fanout.batch_queue import BatchQueue, Job
from bridge.fanout.tasks import BatchTask, CheckTask, WorkerCrashError
from bridge.fanout.worker_slot import WorkerSlot
from erlang_port.etf import Atom
from erlang_port.messages import BatchFailed, encode_message
from erlang_port.otp import supervisor
from erlang_port.otp.supervisor import Flags, Tree
from erlang_port.protocol import Overload
from metrics.program import resident_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bridge.config import Workers
    from bridge.fanout.worker_slot import Task
    from erlang_port.etf import Term
    from erlang_port.messages import Batch, BatchFailure
    from erlang_port.otp.process import Process
    from metrics.workers import WorkerMetrics

#: Checks of templates that may wait for a worker.
MAX_CHECKS: Final = 64

#: Seconds that the check of one template may take, even where batches may take longer: somebody
#: waits for the answer, and the node for 15 s.
MAX_CHECK_TIME: Final = 10.0

#: The broadcast of the node's heartbeats: they go the way of all batches, and the node counts them.
HEARTBEAT: Final = b"heartbeat"

#: Failed broadcasts that are remembered, so that the batches they still send cost no worker.
MAX_FAILED: Final = 256

_TEXTS: Final[dict[BatchFailure, str]] = {
    "timeout": "the template did not end in time",
    "memory": "the template wants more memory than a worker may have",
    "crash": "the workers that formatted it died",
}


_logger = logs.get_logger("megaphone.workers")


class PoolOverloadError(Exception):
    """Too many checks of templates wait already."""


class WorkerPool:
    """Formats batches, as many at a time as there are workers.

    Args:
        configuration: how many workers, and their limits.
        answer: takes `batch_done` and `batch_failed` messages for the node, as they go over the
            wire; raises `Overload` for one that is longer than a frame.
        metrics: counts.
    """

    def __init__(
        self, configuration: Workers, answer: Callable[[bytes], None], metrics: WorkerMetrics
    ) -> None:
        self._configuration = configuration
        self._answer = answer
        self._metrics = metrics
        self._queue = BatchQueue(configuration.queue_limit)
        self._checks: deque[CheckTask] = deque()
        self._wishes: deque[asyncio.Future[Task]] = deque()
        self._running: set[Job] = set()
        # Workers lost to a broadcast since one of its batches was last formatted.
        self._losses: dict[bytes, int] = {}
        self._failed: OrderedDict[bytes, BatchFailure] = OrderedDict()
        self._slots = [
            WorkerSlot(number, configuration.memory_limit, self, metrics.restarts.inc)
            for number in range(configuration.count)
        ]
        metrics.observe(
            in_state=lambda state: sum(slot.state == state for slot in self._slots),
            resident_memory=lambda: sum(worker["rss_bytes"] for worker in self.status()),
            waiting=lambda: len(self._queue),
            waiting_bytes=lambda: self._queue.bytes,
            pids=lambda: [slot.pid for slot in self._slots],
        )

    async def start_link(self) -> Process | None:
        """Start the supervisor that keeps the workers; with its end none is left."""
        children = [slot.child() for slot in self._slots]
        return await supervisor.start_link(Tree("workers", Flags(), children))

    def submit(self, batch: Batch) -> None:
        """Take a batch; its answer is sent when there is one."""
        if batch.broadcast in self._failed:
            self._fail(Job(batch), self._failed[batch.broadcast])
        elif not self._queue.put(Job(batch)):
            limit = self._configuration.queue_limit
            _log_failure(batch, "crash", queued_bytes=self._queue.bytes)
            self._send_failure(batch, "crash", f"more than {limit} bytes of batches wait already")
        self._dispatch()

    def cancel(self, broadcast: bytes) -> None:
        """Forget a broadcast: what waits, and what is asked of a worker now."""
        self._queue.remove(broadcast)
        self._losses.pop(broadcast, None)
        self._failed.pop(broadcast, None)
        for job in self._running:
            if job.batch.broadcast == broadcast:
                job.cancelled = True

    def forget(self) -> None:
        """Forget all broadcasts: the node that has asked is gone, and asks another one."""
        self._queue.clear()
        self._losses.clear()
        self._failed.clear()
        for job in self._running:
            job.cancelled = True

    async def prepare(self, sources: Sequence[bytes]) -> Term:
        """Check templates; they go before all batches.

        Args:
            sources: the templates.

        Returns:
            The answer of `prepare`, see docs/protocol.md.

        Raises:
            PoolOverloadError: too many wait already.
            WorkerCrashError: the workers died, and not of time or memory.
        """
        outcome = "error"
        try:
            columns: set[bytes] = set()
            for index, source in enumerate(sources):
                match await self._check(source):
                    case (str(), dict(found)):
                        columns.update(found[b"columns"])
                    case (invalid, _, text):
                        outcome = "invalid"
                        return invalid, index, text
            outcome = "ok"
            return Atom("ok"), {b"columns": sorted(columns)}
        finally:
            self._metrics.checks.labels(outcome).inc()

    async def _check(self, source: bytes) -> Term:
        tries = 0
        while True:
            if len(self._checks) >= MAX_CHECKS:
                raise PoolOverloadError(f"{MAX_CHECKS} checks of templates wait already")
            task = CheckTask(source, min(self._configuration.batch_timeout, MAX_CHECK_TIME))
            self._checks.append(task)
            self._dispatch()
            try:
                return await task.answer
            except WorkerCrashError:
                tries += 1
                if tries > self._configuration.max_retries:
                    raise
            finally:
                if task in self._checks:
                    self._checks.remove(task)

    # What the slots ask for.

    def next_task(self) -> asyncio.Future[Task]:
        """See `bridge.fanout.worker_slot.TaskSource`."""
        wish: asyncio.Future[Task] = asyncio.get_running_loop().create_future()
        # Without those that were taken back.
        self._wishes = deque(other for other in self._wishes if not other.done())
        self._wishes.append(wish)
        self._dispatch()
        return wish

    def give_back(self, task: Task) -> None:
        """See `bridge.fanout.worker_slot.TaskSource`."""
        if isinstance(task, CheckTask):
            self._checks.appendleft(task)
        elif isinstance(task, BatchTask):
            self._running.discard(task.job)
            if not task.job.cancelled:
                self._queue.put_back(task.job)
        self._dispatch()

    def _dispatch(self) -> None:
        """Bring together the workers that are idle and what waits."""
        while self._wishes:
            if self._wishes[0].done():
                self._wishes.popleft()
                continue
            task = self._waiting_task()
            if task is None:
                return
            self._wishes.popleft().set_result(task)

    def _waiting_task(self) -> Task | None:
        if self._checks:
            return self._checks.popleft()
        job = self._queue.get()
        if job is None:
            return None
        self._running.add(job)
        if not _is_heartbeat(job.batch):
            self._metrics.stages.queue.observe(time.monotonic() - job.since)
        return BatchTask(job, self._configuration.batch_timeout, self)

    # What becomes of a batch.

    def formatted(self, job: Job, payload: bytes, seconds: float) -> None:
        """See `bridge.fanout.tasks.BatchOwner`."""
        self._running.discard(job)
        self._losses.pop(job.batch.broadcast, None)
        if not _is_heartbeat(job.batch):
            self._metrics.stages.format.observe(seconds)
        if job.cancelled:
            return
        try:
            self._answer(payload)
        except Overload:
            _log_failure(job.batch, "too_large", answer_bytes=len(payload))
            self._send_failure(
                job.batch, "too_large", f"the answer has {len(payload)} bytes, more than a frame"
            )
        else:
            self._count(job.batch, "done")

    def refused(self, job: Job, payload: bytes, reason: BatchFailure) -> None:
        """See `bridge.fanout.tasks.BatchOwner`."""
        self._running.discard(job)
        if job.cancelled:
            return
        _log_failure(job.batch, reason)
        try:
            self._answer(payload)
        except Overload:
            self._send_failure(job.batch, reason, "the worker's reason is longer than a frame")
        else:
            self._count(job.batch, reason)

    def lost(self, job: Job, reason: BatchFailure) -> None:
        """See `bridge.fanout.tasks.BatchOwner`."""
        self._running.discard(job)
        if job.cancelled:
            return
        broadcast = job.batch.broadcast
        job.tries += 1
        self._losses[broadcast] = self._losses.get(broadcast, 0) + 1
        tries, others = self._configuration.max_retries, self._configuration.count - 1
        if (
            broadcast in self._failed
            or job.tries > tries
            # All workers killed at once is one misfortune, not as many as there are workers.
            or self._losses[broadcast] > tries + others
        ):
            self._fail_broadcast(job, reason)
            return
        _logger.warning(
            "a batch is formatted again", **_described(job.batch, reason), tries=job.tries
        )
        self._metrics.retries.inc()
        self._queue.put_back(job)
        self._dispatch()

    def _fail_broadcast(self, job: Job, reason: BatchFailure) -> None:
        """Give a broadcast up: what else it has must not cost the others their workers."""
        broadcast = job.batch.broadcast
        self._losses.pop(broadcast, None)
        self._failed[broadcast] = reason
        while len(self._failed) > MAX_FAILED:
            self._failed.popitem(last=False)
        waiting = self._queue.remove(broadcast)
        _log_failure(job.batch, reason, tries=job.tries, waiting=len(waiting))
        for failed in [job, *waiting]:
            self._fail(failed, reason)

    def _fail(self, job: Job, reason: BatchFailure) -> None:
        self._send_failure(job.batch, reason, _TEXTS[reason])

    def _send_failure(self, batch: Batch, reason: BatchFailure, text: str) -> None:
        self._count(batch, reason)
        failed = BatchFailed(batch.broadcast, batch.n, reason, text.encode())
        self._answer(encode_message(failed))

    def _count(self, batch: Batch, outcome: str) -> None:
        if not _is_heartbeat(batch):
            self._metrics.batches.labels(outcome).inc()

    def reasons(self) -> list[str]:
        """Say why no batch can be formatted now; nothing when a worker is there."""
        if any(slot.state != "starting" for slot in self._slots):
            return []
        errors = {slot.error for slot in self._slots} - {None}
        return [f"workers: none is ready: {next(iter(errors), 'starting')}"]

    def status(self) -> list[dict[str, Any]]:
        """Describe the workers, see docs/protocol.md."""
        return [
            {
                "pid": slot.pid,
                "state": slot.state,
                "batches": slot.batches,
                "restarts": slot.restarts,
                "rss_bytes": resident_memory(slot.pid) if slot.pid is not None else 0,
            }
            for slot in self._slots
        ]


def _is_heartbeat(batch: Batch) -> bool:
    return batch.broadcast == HEARTBEAT


def _log_failure(batch: Batch, reason: BatchFailure, **fields: object) -> None:
    # What is too large is halved by the node and asked for again: all in a day's work.
    level = logging.INFO if reason == "too_large" else logging.WARNING
    _logger.log(level, "a batch failed", **_described(batch, reason), **fields)


def _described(batch: Batch, reason: BatchFailure) -> dict[str, object]:
    broadcast = batch.broadcast.decode(errors="replace")
    return {"broadcast": broadcast, "batch": batch.n, "reason": reason}
