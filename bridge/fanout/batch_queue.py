"""The batches that wait for a worker: broadcasts take turns, and bytes are bounded."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from erlang_port.messages import Batch


@dataclass(slots=True, eq=False)
class Job:
    """A batch and what became of it so far.

    Attributes:
        batch: the message as it came.
        tries: workers that it has ended, or that failed on it.
        cancelled: nobody wants the answer any more.
        since: when it came to wait, by the monotonic clock in seconds.
    """

    batch: Batch
    tries: int = 0
    cancelled: bool = False
    since: float = 0.0


class BatchQueue:
    """A queue for each broadcast, asked in turns.

    Args:
        limit: bytes of payload that may wait; one batch may always wait, whatever its size.
    """

    def __init__(self, limit: int) -> None:
        self.bytes = 0
        self._limit = limit
        self._waiting: OrderedDict[bytes, deque[Job]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def put(self, job: Job) -> bool:
        """Append a batch to its broadcast's queue; False when there is no room."""
        size = len(job.batch.payload)
        if self.bytes and self.bytes + size > self._limit:
            return False
        job.since = time.monotonic()
        self._waiting.setdefault(job.batch.broadcast, deque()).append(job)
        self.bytes += size
        return True

    def put_back(self, job: Job) -> None:
        """Put a batch first in its broadcast's queue; it was out, so there is room for it.

        The broadcast has had its turn with it: the others come first.
        """
        job.since = time.monotonic()
        self._waiting.setdefault(job.batch.broadcast, deque()).appendleft(job)
        self._waiting.move_to_end(job.batch.broadcast)
        self.bytes += len(job.batch.payload)

    def get(self) -> Job | None:
        """Take the next batch of the broadcast whose turn it is; None when nothing waits."""
        if not self._waiting:
            return None
        broadcast, jobs = self._waiting.popitem(last=False)
        job = jobs.popleft()
        if jobs:
            self._waiting[broadcast] = jobs
        self.bytes -= len(job.batch.payload)
        return job

    def remove(self, broadcast: bytes) -> list[Job]:
        """Take out everything that waits of a broadcast."""
        jobs = list(self._waiting.pop(broadcast, ()))
        self.bytes -= sum(len(job.batch.payload) for job in jobs)
        return jobs

    def clear(self) -> None:
        """Take out everything."""
        self._waiting.clear()
        self.bytes = 0
