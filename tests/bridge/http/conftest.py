import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import aiohttp
import pytest
from aiohttp import web

from bridge.config import Http
from bridge.http.server import HttpServer
from tests.bridge.waiting import until

Serve = Callable[..., Awaitable[HttpServer]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start servers, on a free port unless told otherwise; ended after the test."""
    tasks: list[asyncio.Task[None]] = []

    async def start(*routes: web.RouteDef, **settings: object) -> HttpServer:
        server = HttpServer(Http.model_validate({"port": 0} | settings))
        server.add_routes(routes)
        task = asyncio.create_task(server.run(lambda: None))
        tasks.append(task)
        await until(lambda: server.url or server.error or task.done())
        if task.done():
            task.result()
        return server

    yield start
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session
