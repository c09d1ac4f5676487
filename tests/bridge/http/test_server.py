import asyncio
import logging
import socket
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

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


async def test_connections_that_come_in_crowds_are_bounded_too(serve: Serve) -> None:
    listening = await serve(*ROUTES)
    assert listening.url is not None
    held: list[socket.socket] = []
    for _ in range(6):
        for _ in range(60):
            held.append(socket.socket())
            held[-1].setblocking(False)
            held[-1].connect_ex(_address(listening.url))
        # The last of them is taken, and answered, before more come.
        with socket.create_connection(_address(listening.url)) as last:
            last.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(last, b"GET /healthz HTTP/1.0\r\n\r\n")
            assert (await loop.sock_recv(last, 4096)).split()[1] == b"200"
    # Sooner than connections are closed for being idle.
    await until(lambda: sum(map(_is_open, held)) <= 2 * server.MAX_CONNECTIONS, timeout=5)
    for one in held:
        one.close()


async def test_who_does_not_read_is_closed_all_the_same(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    body = b"x" * 16 * 1024 * 1024
    asked = 0

    async def large(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(body=body)

    listening = await serve(web.get("/large", large))
    assert listening.url is not None
    before = _sockets()
    held = []
    for n in range(8):
        held.append(socket.create_connection(_address(listening.url)))
        held[-1].sendall(b"GET /large HTTP/1.0\r\n\r\n")
        await until(lambda n=n: asked == n + 1)
    # Both ends are in this process.
    await until(lambda: _sockets() - before <= len(held) + 3)
    for one in held:
        one.close()


async def test_a_host_that_cannot_be_a_name_is_told_and_ends_nothing(serve: Serve) -> None:
    for host in ("a..b", "\0", "x" * 100):
        waiting = await serve(*ROUTES, host=host)
        assert waiting.error is not None
        assert waiting.url is None


def _sockets() -> int:
    links = list(Path("/proc/self/fd").iterdir())
    # One of them was the directory's own.
    return sum(fd.is_symlink() and str(fd.readlink()).startswith("socket:") for fd in links)


def _is_open(one: socket.socket) -> bool:
    try:
        return one.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def _address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").rpartition(":")
    return host, int(port)
