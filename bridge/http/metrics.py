"""`/metrics`: Prometheus's text format, or OpenMetrics for who asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web
from prometheus_client import exposition
from prometheus_client.openmetrics import exposition as openmetrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from prometheus_client import CollectorRegistry

_OPENMETRICS: Final = "application/openmetrics-text"


def routes(
    registry: CollectorRegistry, refresh: Callable[[], Awaitable[None]]
) -> list[web.RouteDef]:
    """Give the routes of this family.

    Args:
        registry: what is shown.
        refresh: brings up to date what must be asked for first; bounded, and never raises.
    """

    async def metrics(request: web.Request) -> web.Response:
        await refresh()
        encode, content_type = _encoder(",".join(request.headers.getall("Accept", [])))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    return [web.get("/metrics", metrics, allow_head=False)]


def _encoder(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    kinds = {kind.partition(";")[0].strip().lower() for kind in accept.split(",")}
    if _OPENMETRICS in kinds:
        return openmetrics.generate_latest, openmetrics.CONTENT_TYPE_LATEST
    return exposition.generate_latest, exposition.CONTENT_TYPE_PLAIN_0_0_4
