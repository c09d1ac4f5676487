import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import aiohttp
import pytest
from aiohttp import web

from bridge.config import Http
from bridge.http.server import HttpServer

Serve = Callable[..., Awaitable[HttpServer]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start servers, on a free port unless told otherwise; ended after the test."""
    tasks: list[asyncio.Task[None]] = []

    async def start(*routes: web.RouteDef, **settings: object) -> HttpServer:
        server = HttpServer(Http.model_validate({"port": 0} | settings), routes)
        task = asyncio.create_task(server.run())
        tasks.append(task)
        async with asyncio.timeout(10):
            while server.url is None and server.error is None:
                if task.done():
                    task.result()
                await asyncio.sleep(0.005)
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
