import aiohttp
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from bridge.http import metrics
from tests.bridge.http.conftest import Serve


async def test_the_registry_in_prometheus_text_format(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    registry = CollectorRegistry()
    Counter("megaphone_things", "Things.", registry=registry).inc(3)
    server = await serve(*metrics.routes(registry))
    async with client.get(f"{server.url}/metrics") as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        families = {f.name: f for f in text_string_to_metric_families(await response.text())}
    assert families["megaphone_things"].samples[0].value == 3
