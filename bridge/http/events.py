"""`/v1/events`: the status as it goes on, by server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from aiohttp import web

from bridge.http.server import STREAMS

if TYPE_CHECKING:
    from bridge.http.snapshots import Snapshots

#: Who may listen at a time; one more is told to ask /v1/status instead.
MAX_LISTENERS: Final = 16

#: Seconds between two looks at the status; an event follows when something has happened.
INTERVAL: Final = 1.0

#: Seconds after which an event follows though nothing has: whoever hears nothing is to know that
#: the connection is lost, and a script does not see comments.
QUIET: Final = 3.0

#: Seconds that a listener has to take an event.
PATIENCE: Final = 5.0


def route(snapshots: Snapshots) -> web.RouteDef:
    """Give the route; however many listen, the status is asked for once every `INTERVAL`."""

    async def get(request: web.Request) -> web.StreamResponse:
        streams = request.app[STREAMS]
        if len(streams) >= MAX_LISTENERS:
            raise web.HTTPServiceUnavailable(
                text=f"{MAX_LISTENERS} listen already: ask /v1/status instead\n"
            )
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs has one
        streams.add(task)
        try:
            return await _stream(request, snapshots)
        finally:
            streams.discard(task)

    return web.get("/v1/events", get, allow_head=False)


async def _stream(request: web.Request, snapshots: Snapshots) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    # nginx would collect events for a while.
    response.headers["X-Accel-Buffering"] = "no"
    await response.prepare(request)
    change, sent = -1, 0.0
    while (transport := request.transport) is not None:
        snapshot = await snapshots.get(INTERVAL / 2)
        if snapshot.change != change or time.monotonic() - sent >= QUIET:
            change, sent = snapshot.change, time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE):
                    await response.write(b"data: " + snapshot.body + b"\n\n")
            except (TimeoutError, ConnectionError):
                # Closing would wait for a peer that does not read.
                transport.abort()
                break
        # All of them at once, so that one answer serves them all.
        await asyncio.sleep(INTERVAL - time.monotonic() % INTERVAL)
    return response
