import asyncio
import logging
import socket

import aiohttp
import pytest

from bridge.http import health, server
from tests.bridge.http.conftest import Serve
from tests.bridge.waiting import until

ROUTES = health.routes(list)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", ["/healthz", "/nothing"])
async def test_only_get(
    serve: Serve, client: aiohttp.ClientSession, method: str, path: str
) -> None:
    listening = await serve(*ROUTES)
    async with client.request(method, f"{listening.url}{path}") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "GET"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8470", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1", 200),
        ("192.0.2.1:80", 200),
        ("[::1]:8470", 200),
        ("[::1]", 200),
        ("monitor.example.org", 200),
        ("example.org", 421),
        ("localhost.example.org:8470", 421),
        ("", 421),
        ("[example.org]", 421),
    ],
)
async def test_requests_for_another_name_are_refused(
    serve: Serve, client: aiohttp.ClientSession, host: str, status: int
) -> None:
    listening = await serve(*ROUTES, allowed_hosts=["Monitor.example.org"])
    async with client.get(f"{listening.url}/healthz", headers={"Host": host}) as response:
        assert response.status == status


async def test_a_request_without_a_host_is_no_browser_s(serve: Serve) -> None:
    listening = await serve(*ROUTES)
    assert listening.url is not None
    reader, writer = await asyncio.open_connection(*_address(listening.url))
    writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
    assert (await reader.readline()).split()[1] == b"200"
    writer.close()
    await writer.wait_closed()


async def test_every_answer_has_the_security_headers(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    listening = await serve(*ROUTES)
    for path, headers in (("/healthz", {}), ("/nothing", {}), ("/healthz", {"Host": "evil"})):
        async with client.get(f"{listening.url}{path}", headers=headers) as response:
            assert response.headers["Server"] == "megaphone"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Cache-Control"] == "no-store"
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert "Access-Control-Allow-Origin" not in response.headers


async def test_a_port_in_use_is_told_once_and_tried_again(
    serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "RETRY_FIRST", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with caplog.at_level(logging.INFO, "megaphone.http"):
            waiting = await serve(*ROUTES, port=port)
        assert waiting.url is None
        assert waiting.error is not None
        assert "in use" in waiting.error
    await until(lambda: waiting.url is not None)
    assert waiting.error is None
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "http.port" in warnings[0]


async def test_who_holds_every_connection_keeps_nobody_out(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    listening = await serve(*ROUTES)
    assert listening.url is not None
    held = [
        await asyncio.open_connection(*_address(listening.url))
        for _ in range(server.MAX_CONNECTIONS + 8)
    ]
    async with asyncio.timeout(10):
        async with client.get(f"{listening.url}/healthz") as response:
            assert response.status == 200
        assert await held[0][0].read() == b""
    for _, writer in held:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for _, writer in held), return_exceptions=True)


def _address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").rpartition(":")
    return host, int(port)
