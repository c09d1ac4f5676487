"""`/metrics` and `/metrics/detailed`: Prometheus's text format, or OpenMetrics when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from aiohttp import web
from prometheus_client import exposition
from prometheus_client.openmetrics import exposition as openmetrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from prometheus_client import CollectorRegistry

_OPENMETRICS: Final = "application/openmetrics-text"
#: Prometheus's text format, the most specific first, which counts (RFC 9110, section 12.5.1).
_PLAIN: Final = ("text/plain", "text/*", "*/*")


class Exposed(NamedTuple):
    """What one path shows.

    Attributes:
        registry: the metrics.
        refresh: brings up to date what must be asked for first; bounded, and never raises.
    """

    registry: CollectorRegistry
    refresh: Callable[[], Awaitable[None]]


def routes(metrics: Exposed, detailed: Exposed) -> list[web.RouteDef]:
    """Give the routes of this family."""

    def route(path: str, exposed: Exposed) -> web.RouteDef:
        async def get(request: web.Request) -> web.Response:
            await exposed.refresh()
            encode, content_type = _encoder(",".join(request.headers.getall("Accept", [])))
            body = encode(exposed.registry)
            return web.Response(body=body, headers={"Content-Type": content_type})

        return web.get(path, get, allow_head=False)

    return [route("/metrics", metrics), route("/metrics/detailed", detailed)]


def _encoder(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    qualities = dict(map(_media_range, accept.split(",")))
    plain = next((qualities[kind] for kind in _PLAIN if kind in qualities), 0.0)
    if 0.0 < qualities.get(_OPENMETRICS, 0.0) >= plain:
        return openmetrics.generate_latest, openmetrics.CONTENT_TYPE_LATEST
    return exposition.generate_latest, exposition.CONTENT_TYPE_PLAIN_0_0_4


def _media_range(text: str) -> tuple[str, float]:
    """One of Accept's media ranges and its weight (RFC 9110, section 12.5.1); 0 if unreadable."""
    kind, *parameters = (part.strip().lower() for part in text.split(";"))
    weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
    try:
        return kind, float(weight)
    except ValueError:
        return kind, 0.0
