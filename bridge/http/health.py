"""`/healthz`: the process is up. `/readyz`: it can format, or why it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable


def routes(
    reasons: Callable[[], list[str]], standing_by: Callable[[], bool] = lambda: False
) -> list[web.RouteDef]:
    """Give the routes of this family.

    Args:
        reasons: says what is not ready, a line each; nothing when all is.
        standing_by: says whether it could take over, and another one works.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        missing = reasons()
        if missing:
            return web.Response(status=503, text="".join(f"{line}\n" for line in missing))
        return web.Response(text="standing by\n" if standing_by() else "ready\n")

    return [
        web.get("/healthz", healthz, allow_head=False),
        web.get("/readyz", readyz, allow_head=False),
    ]
