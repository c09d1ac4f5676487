import asyncio
import contextlib
import errno
import os
import signal
from collections.abc import AsyncIterator

import pytest

from bridge.fanout import worker_process
from bridge.fanout.worker_process import WorkerEndedError, WorkerError, WorkerProcess
from erlang_port.messages import BatchDone, decode_message
from tests.bridge.fanout.conftest import a_batch
from tests.bridge.waiting import until

MEMORY = 256 * 1024 * 1024


@pytest.fixture
async def worker() -> AsyncIterator[WorkerProcess]:
    worker = await WorkerProcess.spawn(MEMORY)
    await worker.hello()
    yield worker
    worker.close()
    with contextlib.suppress(ProcessLookupError):
        # It may be stopped.
        worker.process.kill()
    await worker.process.wait()


async def test_it_answers(worker: WorkerProcess) -> None:
    for n in range(3):
        answer = decode_message(await worker.ask(a_batch("b", n, "{{ user }}").payload))
        assert isinstance(answer, BatchDone)
        assert answer.n == n


async def test_the_end_of_a_killed_one_is_seen_at_once(worker: WorkerProcess) -> None:
    os.kill(worker.pid, signal.SIGSTOP)
    await until(worker.stopped)
    asking = asyncio.create_task(worker.ask(a_batch("b", 0, "{{ user }}").payload))
    await until(lambda: worker._link._waiter is not None)
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerEndedError):
        await asyncio.wait_for(asking, 2)
    assert worker.ended.done()
    with pytest.raises(WorkerEndedError):
        await worker.ask(b"x")


async def test_one_that_lives_takes_the_closing_for_its_end(worker: WorkerProcess) -> None:
    assert not worker.stopped()
    worker.close()
    assert await asyncio.wait_for(worker.process.wait(), 5) == 0
    assert not worker.stopped()


async def test_without_a_socket_it_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(worker_process.socket, "socketpair", no_more)
    with pytest.raises(WorkerError, match="cannot be started: Too many open files"):
        await WorkerProcess.spawn(MEMORY)


async def test_one_that_sends_more_than_it_was_asked_is_of_no_more_use(
    worker: WorkerProcess,
) -> None:
    worker._link.data_received(b"\0\0\0\1x")
    with pytest.raises(WorkerError, match="more than it was asked"):
        await worker.ask(a_batch("b", 0, "{{ user }}").payload)


async def test_one_that_sends_what_is_no_frame_is_of_no_more_use(worker: WorkerProcess) -> None:
    os.kill(worker.pid, signal.SIGSTOP)
    asking = asyncio.create_task(worker.ask(a_batch("b", 0, "{{ user }}").payload))
    await until(lambda: worker._link._waiter is not None)
    worker._link.data_received(b"\0\0\0\0")
    with pytest.raises(WorkerError, match="it sent") as caught:
        await asking
    assert not isinstance(caught.value, WorkerEndedError)
