"""`/v1/status`: node, port, workers and broadcasts as JSON, as docs/protocol.md lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from bridge.http import events
from bridge.http.snapshots import Snapshots

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

#: Seconds for which one answer serves everybody who asks: a poller costs the node next to nothing.
FRESH: Final = 0.2


def routes(
    status: Callable[[], Awaitable[dict[str, Any]]], *, with_events: bool = True
) -> list[web.RouteDef]:
    """Give the routes of this family: the status once, and as it goes on.

    Args:
        status: the whole status, as JSON can hold it. It is asked once at a time and not more often
            than every `FRESH` seconds.
        with_events: whether as it goes on, too.
    """
    snapshots = Snapshots(status)

    async def get(_: web.Request) -> web.Response:
        body = (await snapshots.get(FRESH)).body + b"\n"
        return web.Response(body=body, content_type="application/json")

    own = [web.get("/v1/status", get, allow_head=False)]
    return [*own, events.route(snapshots)] if with_events else own
