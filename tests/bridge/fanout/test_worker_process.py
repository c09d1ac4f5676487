import asyncio
import contextlib
import errno
import os
import shutil
import signal
from collections.abc import AsyncIterator

import pytest

from bridge.fanout import worker_process
from bridge.fanout.worker_process import WorkerError, WorkerProcess
from erlang_port.messages import BatchDone, decode_message
from tests.bridge.fanout.conftest import a_batch
from tests.bridge.waiting import until
from tests.support.processes import alive, children

MEMORY = 256 * 1024 * 1024


@pytest.fixture
async def worker() -> AsyncIterator[WorkerProcess]:
    worker = await WorkerProcess.start(MEMORY)
    yield worker
    await worker.end()


async def test_it_answers(worker: WorkerProcess) -> None:
    for n in range(3):
        answer = decode_message(await worker.ask(a_batch("b", n, "{{ user }}").payload))
        assert isinstance(answer, BatchDone)
        assert answer.n == n


async def test_the_end_of_a_killed_one_is_seen_at_once(worker: WorkerProcess) -> None:
    os.kill(worker.pid, signal.SIGSTOP)
    asking = asyncio.create_task(worker.ask(a_batch("b", 0, "{{ user }}").payload))
    await until(lambda: worker._link._waiter is not None)
    worker.kill()
    with pytest.raises(WorkerError):
        await asyncio.wait_for(asking, 2)
    assert worker.ended.done()
    with pytest.raises(WorkerError):
        await worker.ask(b"x")


async def test_ending_leaves_no_process(worker: WorkerProcess) -> None:
    os.kill(worker.pid, signal.SIGSTOP)
    assert await worker.end() == -signal.SIGKILL
    assert not alive(worker.pid)


async def test_one_that_ends_before_its_hello_says_its_status(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_process.sys, "executable", shutil.which("false"))
    with pytest.raises(WorkerError, match=r"it ended \(exit status 1\)"):
        await WorkerProcess.start(MEMORY)


async def test_one_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "START_TIMEOUT", 0.001)
    before = set(children(os.getpid()))
    with pytest.raises(WorkerError, match="no hello within"):
        await WorkerProcess.start(MEMORY)
    assert set(children(os.getpid())) <= before


async def test_a_start_that_is_cancelled_leaves_no_process() -> None:
    before = set(children(os.getpid()))
    for delay in (0, 0.001, 0.01, 0.05):
        starting = asyncio.create_task(WorkerProcess.start(MEMORY))
        await asyncio.sleep(delay)
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            # It may have been quicker.
            await (await starting).end()
    assert set(children(os.getpid())) <= before


async def test_without_a_descriptor_to_spare_it_is_ended_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_more(_: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(worker_process.os, "pidfd_open", no_more)
    worker = await WorkerProcess.start(MEMORY)
    os.kill(worker.pid, signal.SIGSTOP)
    async with asyncio.timeout(5):
        await worker.end()
    assert not alive(worker.pid)
    worker.kill()


async def test_without_a_socket_it_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(worker_process.socket, "socketpair", no_more)
    with pytest.raises(WorkerError, match="cannot be started: Too many open files"):
        await WorkerProcess.start(MEMORY)


async def test_one_that_sends_more_than_it_was_asked_is_of_no_more_use(
    worker: WorkerProcess,
) -> None:
    worker._link.data_received(b"\0\0\0\1x")
    with pytest.raises(WorkerError, match="more than it was asked"):
        await worker.ask(a_batch("b", 0, "{{ user }}").payload)
