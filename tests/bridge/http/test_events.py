import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from bridge.config import Http
from bridge.http import events, server, status
from bridge.http.server import STREAMS, HttpServer
from tests.bridge.http.conftest import Serve
from tests.bridge.waiting import until


class Counting:
    """A status that says how often it was asked for."""

    def __init__(self) -> None:
        self.asked = 0
        self.document: dict[str, Any] = {}

    async def whole(self) -> dict[str, Any]:
        self.asked += 1
        return {"asked": self.asked, **self.document}


class Quiet(Counting):
    """A status in which nothing happens but that time goes on."""

    async def whole(self) -> dict[str, Any]:
        self.asked += 1
        return {"uptime_seconds": self.asked, **self.document}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "INTERVAL", 0.05)


def listeners(listening: HttpServer) -> int:
    return len(listening._application[STREAMS])


async def heard(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    assert response.status == 200
    assert response.content_type == "text/event-stream"
    while line := await response.content.readline():
        kind, _, data = line.partition(b": ")
        assert kind == b"data"
        assert await response.content.readline() == b"\n"
        yield json.loads(data)


async def take(response: aiohttp.ClientResponse, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(20):
        async for event in heard(response):
            found.append(event)
            if len(found) == count:
                break
    return found


async def test_the_status_comes_again_and_again(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    listening = await serve(*status.routes(Counting().whole))
    async with client.get(f"{listening.url}/v1/events") as response:
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        asked = [event["asked"] for event in await take(response, 4)]
    assert asked == sorted(set(asked))


async def test_many_who_listen_cost_one_question_a_time(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    counting = Counting()
    listening = await serve(*status.routes(counting.whole))
    async with contextlib.AsyncExitStack() as stack:
        responses = [
            await stack.enter_async_context(client.get(f"{listening.url}/v1/events"))
            for _ in range(events.MAX_LISTENERS)
        ]
        await until(lambda: listeners(listening) == events.MAX_LISTENERS)
        before = counting.asked
        took = await asyncio.gather(*(take(response, 10) for response in responses))
    newest = max(event["asked"] for found in took for event in found)
    assert newest - before < 3 * 10 < len(responses) * 10


async def test_one_listener_too_many_is_told_to_ask(
    serve: Serve, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MAX_LISTENERS", 1)
    listening = await serve(*status.routes(Counting().whole))
    async with client.get(f"{listening.url}/v1/events") as first:
        await take(first, 1)
        async with client.get(f"{listening.url}/v1/events") as second:
            assert second.status == 503
            assert "/v1/status" in await second.text()
        async with client.get(f"{listening.url}/v1/status") as third:
            assert third.status == 200
    # Who has gone leaves the place to somebody else.
    await until(lambda: listeners(listening) == 0)
    async with client.get(f"{listening.url}/v1/events") as again:
        await take(again, 1)


async def test_where_nothing_happens_there_is_a_sign_of_life_now_and_then(
    serve: Serve, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "QUIET", 0.4)
    quiet = Quiet()
    listening = await serve(*status.routes(quiet.whole))
    async with client.get(f"{listening.url}/v1/events") as response:
        first, second = await take(response, 2)
        # The status was looked at in between, and not told.
        assert second["uptime_seconds"] - first["uptime_seconds"] > 2
        quiet.document = {"sessions": 1}
        assert (await take(response, 1))[0]["sessions"] == 1


async def test_who_does_not_read_is_dropped(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PATIENCE", 0.2)
    counting = Counting()
    counting.document = {"text": "x" * 4_000_000}
    listening = await serve(*status.routes(counting.whole))
    assert listening.url is not None
    host, _, port = listening.url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port))) as deaf:
        deaf.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: listeners(listening) == 1)
        await until(lambda: listeners(listening) == 0)


async def test_a_stop_ends_listeners_at_once(
    client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SHUTDOWN", 60.0)
    listening = HttpServer(Http(port=0))
    listening.add_routes(status.routes(Counting().whole))
    running = asyncio.create_task(listening.run(lambda: None))
    await until(lambda: listening.url)
    async with client.get(f"{listening.url}/v1/events") as response:
        await take(response, 1)
        began = time.monotonic()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        assert time.monotonic() - began < 10
        with pytest.raises(aiohttp.ClientError):
            await response.read()
