import asyncio
import os
import signal
import time

import pytest
from structlog.testing import capture_logs

from bridge.config import Workers
from bridge.fanout import worker_process
from bridge.fanout.batch_queue import Job
from bridge.fanout.pool import WorkerPool
from erlang_port.messages import BatchDone, BatchFailed, decode_message, encode_message
from erlang_port.protocol import Overload
from metrics.registry import new_registry
from metrics.workers import BATCH_OUTCOMES, WorkerMetrics
from tests.bridge.fanout.conftest import Start, a_batch, texts
from tests.bridge.waiting import until
from tests.support.processes import alive

HANGS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
#: Folded at compile time, where nothing inside the process could stop it.
HANGS_WHEN_COMPILED = "{{ 9**(9**9) }}"
A_GIGABYTE = "{{ 'x' * 10**9 }}"


async def test_batches_are_formatted(start_pool: Start) -> None:
    harness = await start_pool(count=2)
    for n in range(20):
        harness.pool.submit(a_batch("b", n, "Hello {{ user }}"))
    answers = await harness.answered(20)
    assert sorted(answer.n for answer in answers) == list(range(20))
    assert all(texts(answer) == [b"Hello romeo", b"Hello juliet"] for answer in answers)
    assert harness.value("megaphone_batches_total", outcome="done") == 20
    assert harness.value("megaphone_batch_stage_seconds_count", stage="format") == 20
    assert harness.value("megaphone_batch_stage_seconds_count", stage="queue") == 20
    assert sum(worker["batches"] for worker in harness.pool.status()) == 20


async def test_the_node_s_heartbeats_are_formatted_and_not_counted(start_pool: Start) -> None:
    harness = await start_pool(max_retries=0)
    harness.pool.submit(a_batch("heartbeat", 1, "{{ user }}"))
    (answer,) = await harness.answered(1)
    assert texts(answer) == [b"romeo", b"juliet"]
    harness.pool.submit(a_batch("heartbeat", 2, A_GIGABYTE))
    await harness.answered(2)
    for outcome in BATCH_OUTCOMES:
        assert harness.value("megaphone_batches_total", outcome=outcome) == 0
    for stage in ("queue", "format"):
        assert harness.value("megaphone_batch_stage_seconds_count", stage=stage) == 0
    # It has failed, and would for ever, were it not called off.
    harness.pool.cancel(b"heartbeat")
    harness.pool.submit(a_batch("heartbeat", 3, "{{ user }}"))
    assert texts((await harness.answered(3))[2]) == [b"romeo", b"juliet"]


async def test_the_time_in_the_queue_is_that_of_waiting(start_pool: Start) -> None:
    harness = await start_pool(batch_timeout=60)
    os.kill(harness.pid(), signal.SIGSTOP)
    harness.pool.submit(a_batch("b", 0, "{{ user }}"))
    await until(lambda: harness.pool.status()[0]["state"] == "busy")
    begun = time.monotonic()
    harness.pool.submit(a_batch("b", 1, "{{ user }}"))
    await until(lambda: time.monotonic() - begun > 0.3)
    os.kill(harness.pid(), signal.SIGCONT)
    await harness.answered(2)
    waited = harness.value("megaphone_batch_stage_seconds_sum", stage="queue")
    assert waited is not None
    assert 0.3 <= waited < time.monotonic() - begun + 0.1


async def test_a_killed_worker_is_replaced_and_its_batch_formatted_again(start_pool: Start) -> None:
    harness = await start_pool(batch_timeout=60)
    first = harness.pid()
    os.kill(first, signal.SIGSTOP)
    harness.pool.submit(a_batch("b", 0, "{{ user }}"))
    harness.pool.submit(a_batch("b", 1, "{{ user }}"))
    await until(lambda: harness.pool.status()[0]["state"] == "busy")
    os.kill(first, signal.SIGKILL)
    answers = await harness.answered(2)
    assert [answer.n for answer in answers] == [0, 1]
    assert texts(answers[0]) == [b"romeo", b"juliet"]
    assert harness.pid() != first
    assert not alive(first)
    assert harness.pool.status()[0]["restarts"] == 1
    assert harness.value("megaphone_worker_restarts_total") == 1
    assert harness.value("megaphone_batch_retries_total") == 1


async def test_an_idle_worker_that_is_killed_is_replaced_at_once(start_pool: Start) -> None:
    harness = await start_pool()
    first = harness.pid()
    os.kill(first, signal.SIGKILL)
    await until(lambda: harness.pool.reasons() != [], timeout=2)
    await until(lambda: harness.pool.reasons() == [])
    assert harness.pid() != first


async def test_all_workers_killed_at_once_fail_no_broadcast(start_pool: Start) -> None:
    harness = await start_pool(count=3, max_retries=1, batch_timeout=60)
    for pid in harness.pids():
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
    for n in range(3):
        harness.pool.submit(a_batch("b", n, "{{ user }}"))
    await until(lambda: all(w["state"] == "busy" for w in harness.pool.status()))
    for pid in harness.pids():
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    answers = await harness.answered(3)
    assert sorted(answer.n for answer in answers) == [0, 1, 2]
    assert all(isinstance(answer, BatchDone) for answer in answers)


async def test_a_stopped_worker_is_noticed_by_the_deadline(start_pool: Start) -> None:
    harness = await start_pool(batch_timeout=0.5)
    first = harness.pid()
    os.kill(first, signal.SIGSTOP)
    harness.pool.submit(a_batch("b", 0, "{{ user }}"))
    (answer,) = await harness.answered(1)
    assert texts(answer) == [b"romeo", b"juliet"]
    assert not alive(first)


@pytest.mark.parametrize("template", [HANGS, HANGS_WHEN_COMPILED])
async def test_a_template_that_never_ends_fails_its_broadcast_only(
    start_pool: Start, template: str
) -> None:
    harness = await start_pool(batch_timeout=0.3, max_retries=1)
    for n in range(3):
        harness.pool.submit(a_batch("bad", n, template))
    harness.pool.submit(a_batch("good", 0, "{{ user }}"))
    answers = await harness.answered(4)
    by_id = {(answer.broadcast, answer.n): answer for answer in answers}
    assert texts(by_id[b"good", 0]) == [b"romeo", b"juliet"]
    # The good one did not wait for the bad one's end.
    assert answers[0].broadcast == b"good"
    for n in range(3):
        failed = by_id[b"bad", n]
        assert isinstance(failed, BatchFailed)
        assert failed.reason == "timeout"
    # Two workers died of batch 0; its other batches cost none.
    await until(lambda: harness.pool.status()[0]["restarts"] == 2)
    await until(lambda: harness.pool.reasons() == [])

    harness.pool.submit(a_batch("bad", 3, template))
    assert harness.answers[-1].n == 3
    harness.pool.cancel(b"bad")
    harness.pool.submit(a_batch("bad", 4, "{{ user }}"))
    assert texts((await harness.answered(6))[-1]) == [b"romeo", b"juliet"]


async def test_a_template_that_builds_a_gigabyte_fails_its_broadcast_only(
    start_pool: Start,
) -> None:
    harness = await start_pool(max_retries=2)
    first = harness.pid()
    harness.pool.submit(a_batch("bad", 0, A_GIGABYTE))
    harness.pool.submit(a_batch("good", 0, "{{ user }}"))
    answers = await harness.answered(2)
    failed = next(answer for answer in answers if answer.broadcast == b"bad")
    assert isinstance(failed, BatchFailed)
    assert failed.reason == "memory"
    assert harness.value("megaphone_batch_retries_total") == 2
    assert harness.pid() == first


async def test_a_broadcast_that_fails_is_logged_once_and_without_its_text(
    start_pool: Start,
) -> None:
    harness = await start_pool(batch_timeout=0.5, max_retries=1)
    with capture_logs() as events:
        for n in range(3):
            harness.pool.submit(a_batch("b", n, f"secret {HANGS}", ["secret"]))
        await harness.answered(3)
        harness.pool.submit(a_batch("b", 3, "{{ user }}"))
        await harness.answered(4)
    common = {"broadcast": "b", "batch": 0, "reason": "timeout", "log_level": "warning"}
    assert events == [
        {"event": "a batch is formatted again", "tries": 1} | common,
        {"event": "a batch failed", "tries": 2, "waiting": 2} | common,
    ]


async def test_what_would_fail_anywhere_is_not_tried_again(start_pool: Start) -> None:
    harness = await start_pool()
    harness.pool.submit(a_batch("large", 0, "{{ 'x' * 3000000 }}"))
    harness.pool.submit(a_batch("bad", 0, "{{ nobody }}"))
    by_id = {answer.broadcast: answer for answer in await harness.answered(2)}
    large, bad = by_id[b"large"], by_id[b"bad"]
    assert isinstance(large, BatchFailed)
    assert isinstance(bad, BatchFailed)
    assert (large.reason, bad.reason) == ("too_large", "bad_batch")
    assert harness.value("megaphone_batch_retries_total") == 0


async def test_a_cancelled_broadcast_is_forgotten(start_pool: Start) -> None:
    harness = await start_pool(batch_timeout=0.5)
    for n in range(3):
        harness.pool.submit(a_batch("unwanted", n, HANGS))
    await until(lambda: harness.pool.status()[0]["state"] == "busy")
    harness.pool.cancel(b"unwanted")
    harness.pool.submit(a_batch("wanted", 0, "{{ user }}"))
    (answer,) = await harness.answered(1)
    assert answer.broadcast == b"wanted"
    await until(lambda: harness.pool.reasons() == [])
    assert harness.pool.status()[0]["restarts"] == 1


async def test_more_than_may_wait_is_refused(start_pool: Start) -> None:
    harness = await start_pool(queue_limit=1 << 20, batch_timeout=60)
    os.kill(harness.pid(), signal.SIGSTOP)
    users = ["u" * 100_000] * 5
    for n in range(4):
        harness.pool.submit(a_batch("b", n, "{{ user }}", users))
    (refused,) = await harness.answered(1)
    assert isinstance(refused, BatchFailed)
    assert refused.n == 3
    assert b"1048576 bytes" in refused.text
    assert harness.value("megaphone_batches_waiting") == 2
    os.kill(harness.pid(), signal.SIGCONT)
    await harness.answered(4)


async def test_prepare_says_which_columns(start_pool: Start) -> None:
    harness = await start_pool()
    assert await harness.pool.prepare([b"{{ jid }}", b"{{ resource|upper }}"]) == (
        "ok",
        {b"columns": [b"resource", b"server", b"user"]},
    )
    assert await harness.pool.prepare([b"x"]) == ("ok", {b"columns": []})
    assert harness.value("megaphone_template_checks_total", outcome="ok") == 2


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ nobody }}", b"line 1: unknown name 'nobody'"),
        ("{{ 1/0 }}", b"ZeroDivisionError"),
        (HANGS, b"did not end within 0.5 s"),
        (HANGS_WHEN_COMPILED, b"did not end within 0.5 s"),
        (A_GIGABYTE, b"memory"),
    ],
)
async def test_prepare_refuses_and_says_which_and_why(
    start_pool: Start, template: str, text: bytes
) -> None:
    harness = await start_pool(batch_timeout=0.5)
    tag, index, reason = await harness.pool.prepare([b"fine", template.encode()])
    assert (tag, index) == ("invalid", 1)
    assert text in reason
    assert harness.value("megaphone_template_checks_total", outcome="invalid") == 1


async def test_prepare_goes_before_batches_and_survives_a_killed_worker(start_pool: Start) -> None:
    harness = await start_pool(batch_timeout=60)
    os.kill(harness.pid(), signal.SIGSTOP)
    for n in range(3):
        harness.pool.submit(a_batch("b", n, "{{ user }}"))
    await until(lambda: harness.pool.status()[0]["state"] == "busy")
    waiting = asyncio.create_task(harness.pool.prepare([b"{{ user }}"]))
    await until(lambda: len(harness.pool._checks) == 1)
    os.kill(harness.pid(), signal.SIGKILL)
    assert await waiting == ("ok", {b"columns": [b"user"]})
    await harness.answered(3)


async def test_nobody_waits_for_a_check_that_was_given_up(start_pool: Start) -> None:
    harness = await start_pool(batch_timeout=60)
    os.kill(harness.pid(), signal.SIGSTOP)
    harness.pool.submit(a_batch("b", 0, "{{ user }}"))
    await until(lambda: harness.pool.status()[0]["state"] == "busy")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await harness.pool.prepare([b"x"])
    assert len(harness.pool._checks) == 0
    os.kill(harness.pid(), signal.SIGCONT)
    await harness.answered(1)


async def test_workers_that_cannot_start_are_told_and_tried_again(
    start_pool: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(worker_process.sys, "executable", "/nonexistent/python")
        harness = await start_pool(ready=False)
        await until(lambda: "No such file" in "".join(harness.pool.reasons()))
    await until(lambda: harness.pool.reasons() == [])
    harness.pool.submit(a_batch("b", 0, "{{ user }}"))
    assert texts((await harness.answered(1))[0]) == [b"romeo", b"juliet"]


async def test_no_worker_is_left_after_the_end(start_pool: Start) -> None:
    harness = await start_pool(count=2)
    pids = [pid for pid in harness.pids() if pid is not None]
    os.kill(pids[0], signal.SIGSTOP)
    await harness.stop()
    assert len(pids) == 2
    assert not any(map(alive, pids))


def a_pool(answers: list[BatchFailed], longest: int) -> WorkerPool:
    """A pool without workers, whose node takes no longer messages than so many bytes."""

    def answer(payload: bytes) -> None:
        if len(payload) > longest:
            raise Overload
        message = decode_message(payload)
        assert isinstance(message, BatchFailed)
        answers.append(message)

    return WorkerPool(Workers(count=1), answer, WorkerMetrics(new_registry()))


async def test_a_refusal_longer_than_a_frame_is_cut_and_not_lost() -> None:
    answers: list[BatchFailed] = []
    pool = a_pool(answers, 300)
    long = BatchFailed(b"b", 0, "bad_batch", b"why " * 100)
    pool.refused(Job(a_batch("b", 0, "x")), encode_message(long), "bad_batch")
    (failed,) = answers
    assert (failed.broadcast, failed.n, failed.reason) == (b"b", 0, "bad_batch")
    assert failed.text


async def test_wishes_that_were_taken_back_do_not_pile_up() -> None:
    pool = a_pool([], 300)
    waiting = pool.next_task()
    for _ in range(100):
        pool.next_task().cancel()
    assert len(pool._wishes) <= 2
    pool.submit(a_batch("b", 0, "x"))
    assert waiting.done()


async def test_what_is_forgotten_is_not_answered_and_the_next_is(start_pool: Start) -> None:
    """The node is gone: what it asked for, and what it knew of, is nothing to the next one."""
    harness = await start_pool(max_retries=0)
    harness.pool.submit(a_batch("bad", 0, A_GIGABYTE))
    await harness.answered(1)
    await until(lambda: harness.pool.reasons() == [])
    os.kill(harness.pid(), signal.SIGSTOP)
    for n in range(5):
        harness.pool.submit(a_batch("b", n, "of the last: {{ user }}"))
    harness.pool.forget()
    os.kill(harness.pid(), signal.SIGCONT)
    # The same name and number, and a name that had failed.
    harness.pool.submit(a_batch("b", 0, "of this one: {{ user }}"))
    harness.pool.submit(a_batch("bad", 0, "{{ user }}"))
    answers = (await harness.answered(3))[1:]
    assert [texts(answer)[0] for answer in answers] == [b"of this one: romeo", b"romeo"]
