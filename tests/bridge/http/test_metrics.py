import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, openmetrics
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from bridge.http import metrics
from bridge.http.metrics import Exposed
from metrics.registry import new_registry
from tests.bridge.http.conftest import Serve


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = new_registry()
    Counter("megaphone_things", "Things.", registry=registry).inc(3)
    return registry


async def nothing() -> None:
    """Nothing has to be brought up to date."""


def routes(registry: CollectorRegistry) -> list[web.RouteDef]:
    return metrics.routes(Exposed(registry, nothing), Exposed(new_registry(), nothing))


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "text/plain;version=0.0.4",
        "application/openmetrics",
        ",;=,;",
        "",
        "application/openmetrics-text;q=0",
        "application/openmetrics-text;q=0.1,text/plain;q=1",
        "application/openmetrics-text; Q=0.9, text/plain",
        "application/openmetrics-text;q=0.5,text/*;q=0.6,*/*;q=0.1",
        "application/openmetrics-text;q=0.5,*/*",
        "application/openmetrics-text;q=much",
        "application/openmetrics-text;q=nan",
    ],
)
async def test_the_registry_in_prometheus_text_format(
    serve: Serve, client: aiohttp.ClientSession, registry: CollectorRegistry, accept: str
) -> None:
    server = await serve(*routes(registry))
    async with client.get(f"{server.url}/metrics", headers={"Accept": accept}) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = {f.name: f for f in text_string_to_metric_families(await response.text())}
    assert families["megaphone_things"].samples[0].value == 3


@pytest.mark.parametrize(
    "accept",
    [
        # What Prometheus sends.
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        "Application/OpenMetrics-Text",
        "application/openmetrics-text; version=x; escaping=y",
        "text/plain, application/openmetrics-text",
        "application/openmetrics-text;q=0.5,text/plain;q=0.1,*/*;q=0.9",
        "application/openmetrics-text;q=0.1,text/plain;q=0,*/*",
    ],
)
async def test_openmetrics_when_asked_for(
    serve: Serve, client: aiohttp.ClientSession, registry: CollectorRegistry, accept: str
) -> None:
    server = await serve(*routes(registry))
    async with client.get(f"{server.url}/metrics", headers={"Accept": accept}) as response:
        assert response.headers["Content-Type"] == openmetrics.exposition.CONTENT_TYPE_LATEST
        text = await response.text()
    assert text.endswith("# EOF\n")
    assert "_created" not in text
    families = {f.name: f for f in openmetrics_families(text)}
    assert families["megaphone_things"].samples[0].value == 3


async def test_what_is_shown_is_of_this_scrape(serve: Serve, client: aiohttp.ClientSession) -> None:
    registry = new_registry()
    counter = Counter("megaphone_scrapes", "Scrapes.", registry=registry)

    async def refresh() -> None:
        counter.inc()

    detail = new_registry()
    exposed = Exposed(registry, refresh), Exposed(detail, nothing)
    server = await serve(*metrics.routes(*exposed))
    for n in (1, 2, 3):
        async with client.get(f"{server.url}/metrics") as response:
            assert f"megaphone_scrapes_total {n}.0" in await response.text()
        async with client.get(f"{server.url}/metrics/detailed") as response:
            assert await response.text() == ""
