import aiohttp

from bridge.http import health
from tests.bridge.http.conftest import Serve


async def test_healthz_answers_whatever_is_down(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    server = await serve(*health.routes(lambda: ["everything is down"]))
    async with client.get(f"{server.url}/healthz") as response:
        assert (response.status, await response.text()) == (200, "ok\n")


async def test_readyz_says_why_not(serve: Serve, client: aiohttp.ClientSession) -> None:
    reasons = ["port: not connected", "workers: none is ready"]
    server = await serve(*health.routes(lambda: reasons))
    async with client.get(f"{server.url}/readyz") as response:
        assert response.status == 503
        assert await response.text() == "port: not connected\nworkers: none is ready\n"
    reasons.clear()
    async with client.get(f"{server.url}/readyz") as response:
        assert (response.status, await response.text()) == (200, "ready\n")
