from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from bridge.config import Workers
from bridge.fanout.pool import WorkerPool
from erlang_port.etf import decode, encode
from erlang_port.messages import Batch, BatchDone, BatchFailed, batch, decode_message
from erlang_port.otp import gen_server
from metrics.registry import new_registry
from metrics.workers import WorkerMetrics
from tests.bridge.waiting import until

if TYPE_CHECKING:
    from erlang_port.otp.process import Process


def a_batch(broadcast: str, n: int, template: str, users: list[str] | None = None) -> Batch:
    users = users or ["romeo", "juliet"]
    columns = {b"user": "\0".join(users).encode()}
    return batch(broadcast.encode(), n, encode(([template.encode()], len(users), columns)))


class PoolHarness:
    """A pool with real workers and what it answered."""

    def __init__(self, **settings: Any) -> None:
        self.registry = new_registry()
        self.answers: list[BatchDone | BatchFailed] = []
        self.pool = WorkerPool(
            Workers.model_validate({"count": 1} | settings),
            self._answer,
            WorkerMetrics(self.registry),
        )
        self._workers: Process | None = None

    def _answer(self, payload: bytes) -> None:
        message = decode_message(payload)
        assert isinstance(message, BatchDone | BatchFailed)
        self.answers.append(message)

    async def start(self, *, ready: bool = True) -> None:
        self._workers = await self.pool.start_link()
        if ready:
            await until(lambda: all(pid is not None for pid in self.pids()))
            await until(lambda: self.pool.reasons() == [])

    async def stop(self) -> None:
        if self._workers is not None and self._workers.alive:
            await gen_server.stop(self._workers, "shutdown")

    def pids(self) -> list[int | None]:
        return [worker["pid"] for worker in self.pool.status()]

    def pid(self) -> int:
        (pid,) = self.pids()
        assert pid is not None
        return pid

    async def answered(self, count: int, timeout: float = 30.0) -> list[BatchDone | BatchFailed]:
        await until(lambda: len(self.answers) >= count, timeout)
        assert len(self.answers) == count
        return self.answers

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def texts(answer: BatchDone | BatchFailed) -> list[bytes]:
    assert isinstance(answer, BatchDone), answer
    columns, dropped = decode(answer.body)
    assert dropped == []
    return columns[0].split(b"\0")


Start = Callable[..., Awaitable[PoolHarness]]


@pytest.fixture
async def start_pool() -> AsyncIterator[Start]:
    harnesses: list[PoolHarness] = []

    async def start(*, ready: bool = True, **settings: Any) -> PoolHarness:
        harness = PoolHarness(**settings)
        harnesses.append(harness)
        await harness.start(ready=ready)
        return harness

    yield start
    for harness in harnesses:
        await harness.stop()
