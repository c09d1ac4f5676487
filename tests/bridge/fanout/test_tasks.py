import pytest

from bridge.fanout.batch_queue import Job
from bridge.fanout.tasks import BatchTask, CheckTask, WorkerCrashError
from erlang_port.etf import Atom, encode
from erlang_port.messages import (
    BatchFailed,
    BatchFailure,
    Call,
    Replies,
    Reply,
    batch,
    batch_done,
    decode_message,
    encode_message,
    error_answer,
)


class Owner:
    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def formatted(self, job: Job, payload: bytes, seconds: float) -> None:
        self.told.append(("formatted", job.batch.n, payload, seconds))

    def refused(self, job: Job, payload: bytes, reason: BatchFailure) -> None:
        self.told.append(("refused", job.batch.n, payload, reason))

    def lost(self, job: Job, reason: BatchFailure) -> None:
        self.told.append(("lost", job.batch.n, reason))


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
def task(owner: Owner) -> BatchTask:
    return BatchTask(Job(batch(b"b", 3, b"body")), 1.0, owner)


def test_a_batch_goes_as_it_came_and_so_does_its_answer(owner: Owner, task: BatchTask) -> None:
    assert task.payload == batch(b"b", 3, b"body").payload
    done = batch_done(b"b", 3, b"texts").payload
    task.answered(done, 0.5)
    assert owner.told == [("formatted", 3, done, 0.5)]


@pytest.mark.parametrize("reason", ["bad_batch", "too_large"])
def test_what_would_fail_anywhere(owner: Owner, task: BatchTask, reason: BatchFailure) -> None:
    failed = encode_message(BatchFailed(b"b", 3, reason, b"why"))
    task.answered(failed, 0.5)
    assert owner.told == [("refused", 3, failed, reason)]


def test_too_little_memory_is_worth_another_worker(owner: Owner, task: BatchTask) -> None:
    task.answered(encode_message(BatchFailed(b"b", 3, "memory", b"")), 0.5)
    assert owner.told == [("lost", 3, "memory")]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x83",
        encode(Atom("hello")),
        batch_done(b"other", 3, b"").payload,
        batch_done(b"b", 4, b"").payload,
        encode_message(BatchFailed(b"b", 2, "too_large", b"")),
    ],
)
def test_an_answer_that_is_none_counts_as_a_crash(
    owner: Owner, task: BatchTask, payload: bytes
) -> None:
    task.answered(payload, 0.5)
    assert owner.told == [("lost", 3, "crash")]


async def test_a_check_asks_and_hands_on_the_answer() -> None:
    check = CheckTask(b"{{ user }}", 2.0)
    call = decode_message(check.payload)
    assert isinstance(call, Call)
    assert (call.name, call.request, call.timeout_ms) == (
        b"template",
        ("prepare", [b"{{ user }}"]),
        2000,
    )
    answer = encode((Atom("ok"), {b"columns": [b"user"]}))
    check.answered(encode_message(Replies([Reply(call.id, True, answer)])), 0.1)
    assert await check.answer == ("ok", {b"columns": [b"user"]})


async def test_a_check_that_does_not_end_is_invalid() -> None:
    check = CheckTask(b"x", 2.0)
    check.failed("timeout")
    assert await check.answer == ("invalid", 0, b"it did not end within 2 s")


@pytest.mark.parametrize(
    "payload",
    [b"", encode_message(Replies([Reply(1, False, error_answer("crash", ""))]))],
)
async def test_a_check_without_an_answer(payload: bytes) -> None:
    check = CheckTask(b"x", 2.0)
    check.answered(payload, 0.1)
    with pytest.raises(WorkerCrashError):
        await check.answer
    crashed = CheckTask(b"x", 2.0)
    crashed.failed("crash")
    with pytest.raises(WorkerCrashError):
        await crashed.answer


async def test_a_check_that_nobody_waits_for() -> None:
    check = CheckTask(b"x", 2.0)
    check.answer.cancel()
    check.failed("timeout")
    check.answered(b"", 0.1)
    assert check.answer.cancelled()
