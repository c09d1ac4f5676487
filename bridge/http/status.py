"""`/v1/status`: node, port, workers and broadcasts as JSON, as docs/protocol.md lists them."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

#: Seconds for which one answer serves everybody who asks: a poller costs the node next to nothing.
FRESH: Final = 0.2


def routes(status: Callable[[], Awaitable[dict[str, Any]]]) -> list[web.RouteDef]:
    """Give the routes of this family.

    Args:
        status: the whole status, as JSON can hold it. It is asked once at a time and not more often
            than every `FRESH` seconds.
    """
    cache = _Cache(status)

    async def get(_: web.Request) -> web.Response:
        return web.Response(body=await cache.get(), content_type="application/json")

    return [web.get("/v1/status", get, allow_head=False)]


class _Cache:
    def __init__(self, status: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self._status = status
        self._body = b""
        self._until = float("-inf")
        self._lock = asyncio.Lock()

    async def get(self) -> bytes:
        async with self._lock:
            if time.monotonic() >= self._until:
                answer = await self._status()
                self._body = json.dumps(answer, ensure_ascii=False).encode() + b"\n"
                self._until = time.monotonic() + FRESH
        return self._body
