import json
from typing import Any

import pytest

from bridge import status
from bridge.app import PortWay
from bridge.config import Http, Workers
from bridge.fanout.pool import WorkerPool
from bridge.http.server import HttpServer
from erlang_port.etf import Atom, ImproperList, decode, encode
from erlang_port.startup import OutputCapture
from erlang_port.transports.fds import CallError, Disconnected, PortConnection
from metrics.headroom import Headroom
from metrics.node import NodeCollector
from metrics.registry import new_registry
from metrics.workers import WorkerMetrics

#: The keys of docs/protocol.md, "status".
KEYS = {
    *("version", "python", "pid", "uptime_seconds", "http", "http_error", "rss_bytes"),
    *("loop_lag_seconds", "workers", "worker_restarts", "processes", "capacity", "sidecar", "tree"),
}


class Port(PortConnection):
    """A connection whose answer is set by the test."""

    def __init__(self) -> None:
        super().__init__(name="test", version="0")
        self.answer: Any = None
        self.asked: list[tuple[str, Any]] = []

    @property
    def connected(self) -> bool:
        return not isinstance(self.answer, Disconnected)

    def statistics(self) -> Any:
        class Figures:
            loop_lag = 0.5

        return Figures

    async def call(self, name: str, request: Any, timeout: float) -> Any:
        assert timeout > 0
        self.asked.append((name, request))
        if isinstance(self.answer, Exception):
            raise self.answer
        return decode(encode(self.answer))


@pytest.fixture
def port() -> Port:
    return Port()


@pytest.fixture
def whole(port: Port) -> status.Status:
    registry = new_registry()
    pool = WorkerPool(Workers(count=2), lambda _: None, WorkerMetrics(registry))
    headroom = Headroom(registry, NodeCollector(registry, port.call))
    way = PortWay((-1, -1), OutputCapture())
    return status.Status(
        status.Sources(port, pool, HttpServer(Http()), headroom, way, lambda: None, lambda: 7)
    )


def test_the_bridge_s_own_part_has_the_protocol_s_keys(whole: status.Status) -> None:
    own = whole.own()
    assert own.keys() == {"bridge"}
    assert own["bridge"].keys() == KEYS
    assert [set(worker) for worker in own["bridge"]["workers"]] == [
        {"pid", "state", "batches", "restarts", "rss_bytes"}
    ] * 2


def test_on_the_wire_all_keys_are_binaries(whole: status.Status) -> None:
    own = decode(encode(whole.own()))
    assert set(own[b"bridge"]) == {key.encode() for key in KEYS}
    assert own[b"bridge"][b"http"] is None


async def test_both_parts_together_are_json(port: Port, whole: status.Status) -> None:
    port.answer = {
        b"node": {b"name": "Zoë@localhost".encode(), b"vhosts": [b"a", b"b"], b"sessions": 7},
        b"port": {b"state": Atom("connected"), b"reason": None, b"restarts": 0},
        b"broadcasts": [{b"id": b"x", b"seconds": 1.5, b"done": True}],
    }
    text = json.dumps(await whole.whole())
    read = json.loads(text)
    assert port.asked == [("node", "status")]
    assert read["node"] == {"name": "Zoë@localhost", "vhosts": ["a", "b"], "sessions": 7}
    assert read["port"] == {"state": "connected", "reason": None, "restarts": 0}
    assert read["broadcasts"] == [{"id": "x", "seconds": 1.5, "done": True}]
    assert read["bridge"].keys() == KEYS


@pytest.mark.parametrize(
    ("answer", "state", "reason"),
    [
        (CallError("overload", "too much"), "connected", "overload: too much"),
        (TimeoutError(), "connected", "no status within 2 s"),
        (Disconnected("the node closed the port"), "down", "closed the port"),
        ([1, 2], "connected", "no map"),
    ],
)
async def test_without_the_node_s_part(
    port: Port, whole: status.Status, answer: Any, state: str, reason: str
) -> None:
    port.answer = answer
    status_ = await whole.whole()
    assert (status_["node"], status_["broadcasts"]) == (None, [])
    assert status_["port"]["state"] == state
    assert reason in status_["port"]["reason"]


def test_what_is_not_ready(port: Port, whole: status.Status) -> None:
    assert whole.reasons() == ["workers: none is ready: starting"]
    port.answer = Disconnected("gone")
    assert whole.reasons()[0] == "port: not connected to the node"


def test_terms_that_json_has_nothing_for() -> None:
    term = {Atom("a"): (1, b"\xff", ImproperList([1], 2)), b"t": True, b"u": None}
    read = json.loads(json.dumps(status.as_json(term)))
    assert read["a"][:2] == [1, "\ufffd"]
    assert isinstance(read["a"][2], str)
    assert (read["t"], read["u"]) == (True, None)
