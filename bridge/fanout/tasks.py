"""What a pool gives its workers to do: a batch to format, a template to check."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from erlang_port.etf import Atom, EtfError, decode
from erlang_port.messages import (
    BatchDone,
    BatchFailed,
    Call,
    MessageError,
    Replies,
    decode_message,
    encode_message,
)

if TYPE_CHECKING:
    from bridge.fanout.batch_queue import Job
    from bridge.fanout.worker_slot import Failure
    from erlang_port.etf import Term
    from erlang_port.messages import BatchFailure

#: The id of a call to a worker: one is under way at a time.
_CALL_ID: Final = 1


class WorkerCrashError(Exception):
    """A worker died at the check, and not of time or memory."""


class BatchOwner(Protocol):
    """Who decides what becomes of a batch."""

    def formatted(self, job: Job, payload: bytes, seconds: float) -> None:
        """Take the worker's `batch_done`."""

    def refused(self, job: Job, payload: bytes, reason: BatchFailure) -> None:
        """Take the worker's `batch_failed` for a batch that would fail anywhere."""

    def lost(self, job: Job, reason: BatchFailure) -> None:
        """Learn that the batch ended its worker, or wanted more memory than that had."""


class BatchTask:
    """A batch for a worker."""

    def __init__(self, job: Job, timeout: float, owner: BatchOwner) -> None:
        self.job = job
        self.payload = job.batch.payload
        self.timeout = timeout
        self._owner = owner

    def answered(self, payload: bytes, seconds: float) -> None:
        """See `bridge.fanout.worker_slot.Task`."""
        mine = (self.job.batch.broadcast, self.job.batch.n)
        try:
            message = decode_message(payload)
        except (EtfError, MessageError):
            message = None
        match message:
            case BatchDone(broadcast, n) if (broadcast, n) == mine:
                self._owner.formatted(self.job, payload, seconds)
            case BatchFailed(broadcast, n, "bad_batch" | "too_large" as reason) if (
                broadcast,
                n,
            ) == mine:
                self._owner.refused(self.job, payload, reason)
            case BatchFailed(broadcast, n, reason) if (broadcast, n) == mine:
                self._owner.lost(self.job, reason)
            case _:
                self._owner.lost(self.job, "crash")

    def failed(self, reason: Failure) -> None:
        """See `bridge.fanout.worker_slot.Task`."""
        self._owner.lost(self.job, reason)


class CheckTask:
    """The check of one template, for a worker.

    Attributes:
        answer: the worker's answer, or `WorkerCrashError`; cancelled when nobody wants it any more.
    """

    def __init__(self, source: bytes, timeout: float) -> None:
        request = (Atom("prepare"), [source])
        self.payload = encode_message(Call(_CALL_ID, b"template", request, int(timeout * 1000)))
        self.timeout = timeout
        self.answer: asyncio.Future[Term] = asyncio.get_running_loop().create_future()

    def answered(self, payload: bytes, seconds: float) -> None:
        """See `bridge.fanout.worker_slot.Task`."""
        del seconds
        if self.answer.done():
            return
        try:
            message = decode_message(payload)
            if isinstance(message, Replies) and len(message.replies) == 1 and message.replies[0].ok:
                self.answer.set_result(decode(message.replies[0].answer))
                return
        except (EtfError, MessageError):
            pass
        self.answer.set_exception(WorkerCrashError("a worker's answer cannot be read"))

    def failed(self, reason: Failure) -> None:
        """See `bridge.fanout.worker_slot.Task`."""
        if self.answer.done():
            return
        if reason == "timeout":
            text = f"it did not end within {self.timeout:g} s"
            self.answer.set_result((Atom("invalid"), 0, text.encode()))
        else:
            self.answer.set_exception(WorkerCrashError("the worker that checked it died"))
