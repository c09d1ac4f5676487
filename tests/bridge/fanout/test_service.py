from collections.abc import Callable
from typing import Any

import pytest

from bridge.config import Workers
from bridge.fanout import pool as pools
from bridge.fanout import service
from bridge.fanout.limits import MAX_TEMPLATES
from bridge.fanout.pool import WorkerPool
from erlang_port.etf import Atom
from erlang_port.transports.fds import CallError, PortConnection
from metrics.registry import new_registry
from metrics.workers import WorkerMetrics
from tests.bridge.fanout.conftest import a_batch


class Port(PortConnection):
    def __init__(self) -> None:
        super().__init__(name="test", version="0")
        self.registered: dict[str, Callable[[Any], Any]] = {}

    def register(self, name: str, handler: Callable[[Any], Any]) -> None:
        self.registered[name] = handler


@pytest.fixture
def pool() -> WorkerPool:
    return WorkerPool(Workers(count=1), lambda _: None, WorkerMetrics(new_registry()))


@pytest.fixture
def port(pool: WorkerPool) -> Port:
    port = Port()
    service.register(port, pool)
    return port


@pytest.mark.parametrize(
    "request_",
    [
        Atom("prepare"),
        (Atom("prepare"), []),
        (Atom("prepare"), [7]),
        (Atom("prepare"), b"template"),
        (Atom("prepare"), [b"x"] * (MAX_TEMPLATES + 1)),
        (Atom("other"), [b"x"]),
    ],
)
async def test_a_request_it_does_not_know(port: Port, request_: Any) -> None:
    with pytest.raises(CallError, match="badarg"):
        await port.registered["fanout"](request_)


async def test_too_many_checks_are_an_overload(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "MAX_CHECKS", 0)
    with pytest.raises(CallError, match="overload"):
        await port.registered["fanout"]((Atom("prepare"), [b"x"]))


async def test_batches_go_to_the_pool(port: Port, pool: WorkerPool) -> None:
    port.on_batch(a_batch("b", 0, "x"))
    assert len(pool._queue) == 1
    port.on_batch_cancel(b"b")
    assert len(pool._queue) == 0
