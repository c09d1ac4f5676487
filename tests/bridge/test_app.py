import asyncio
import json
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.bridge.fanout.conftest import a_batch
from tests.bridge.node_stub import NodeStub
from tests.bridge.waiting import until
from tests.metrics.answers import everything

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"

StartNode = Callable[..., Awaitable[NodeStub]]


@pytest.fixture
async def start_node() -> AsyncIterator[StartNode]:
    nodes: list[NodeStub] = []

    async def start(**environment: str) -> NodeStub:
        node = NodeStub()
        await node.start(**{"MEGAPHONE_WORKERS__COUNT": "1"} | environment)
        nodes.append(node)
        await node.greet()
        return node

    yield start
    for node in nodes:
        await node.end()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def get(client: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    async with client.get(url) as response:
        return response.status, await response.text()


async def test_ready_once_port_and_workers_are_and_not_before(
    start_node: StartNode, client: aiohttp.ClientSession
) -> None:
    node = await start_node()
    url = await node.url()
    worker = await node.worker()
    assert await get(client, f"{url}/healthz") == (200, "ok\n")
    assert await get(client, f"{url}/readyz") == (200, "ready\n")
    os.kill(worker, signal.SIGKILL)
    async with asyncio.timeout(20):
        while (answer := await get(client, f"{url}/readyz"))[0] == 200:
            assert answer == (200, "ready\n")
        assert answer == (503, "workers: none is ready: ends by itself\n")
        while (await get(client, f"{url}/readyz"))[0] != 200:  # noqa: ASYNC110 - polled by HTTP
            await asyncio.sleep(0.01)
    assert await node.worker() != worker


async def test_the_status_is_the_node_s_and_the_bridge_s(
    start_node: StartNode, client: aiohttp.ClientSession
) -> None:
    node = await start_node()
    url = await node.url()
    node.status = {
        b"node": {b"name": b"stub@localhost", b"sessions": 3},
        b"port": {b"state": b"connected"},
        b"broadcasts": [],
    }
    status, text = await get(client, f"{url}/v1/status")
    assert status == 200
    read = json.loads(text)
    assert read.keys() == {"node", "port", "broadcasts", "bridge"}
    assert read["node"] == {"name": "stub@localhost", "sessions": 3}
    assert read["bridge"]["http"] == url
    assert read["bridge"]["pid"] == node.process.pid
    assert node.status_asked == 1


async def test_every_documented_metric_is_served(
    start_node: StartNode, client: aiohttp.ClientSession
) -> None:
    node = await start_node()
    node.metrics = await everything()
    url = await node.url()
    for n in range(5):
        node.send(a_batch("b", n, "{{ user }}"))
    await until(lambda: len(node.answers) == 5)
    _, text = await get(client, f"{url}/metrics")
    _, detailed = await get(client, f"{url}/metrics/detailed")
    served = {}
    for family in text_string_to_metric_families(detailed + text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        served[name] = {tuple(s.labels.values()): s.value for s in family.samples}
    documented = set(re.findall(r"^\| `(\w+)`", DOCS.read_text(), re.MULTILINE))
    assert served.keys() == documented
    assert served["megaphone_batches_total"]["done",] == 5
    assert served["megaphone_up"][()] == 1
    assert served["megaphone_port_connected"][()] == 1
    assert served["megaphone_port_bytes_total"]["received",] > 0


async def test_a_port_in_use_does_not_end_the_program(start_node: StartNode) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        node = await start_node(MEGAPHONE_HTTP__PORT=str(taken.getsockname()[1]))
        await node.worker()
        status = await node.own_status()
        assert status[b"http"] is None
        assert b"in use" in status[b"http_error"]
        await until(lambda: any("http.port" in text for *_, text in node.logs))
    assert await node.url()
    assert (await node.own_status())[b"http_error"] is None


async def test_without_http(start_node: StartNode) -> None:
    node = await start_node(MEGAPHONE_HTTP__ENABLED="false")
    await node.worker()
    status = await node.own_status()
    assert (status[b"http"], status[b"http_error"]) == (None, None)


async def test_log_lines_may_be_json(start_node: StartNode) -> None:
    node = await start_node(MEGAPHONE_LOG__FORMAT="json")
    url = await node.url()
    await until(lambda: any("listening" in text for *_, text in node.logs))
    events = {source: json.loads(text) for _, source, text in node.logs}
    for source, wanted in (
        ("megaphone", {"event": "connected", "node": "stub@localhost"}),
        ("megaphone.http", {"event": "listening for HTTP", "url": url}),
    ):
        event = events[source]
        assert event.items() >= ({"level": "info", "logger": source} | wanted).items()


async def test_the_log_level_decides_what_is_passed_on(start_node: StartNode) -> None:
    node = await start_node(MEGAPHONE_LOG__LEVEL="error")
    worker = await node.worker()
    os.kill(worker, signal.SIGKILL)
    async with asyncio.timeout(20):
        while await node.worker() == worker:  # noqa: ASYNC110 - polled over the port
            await asyncio.sleep(0.01)
    # What it says at the level of info, that it is connected, is not among it.
    (entry,) = node.logs
    assert (entry[0], entry[2]) == ("error", "workers: child worker-0 ended: exit status 137")
