import asyncio
from typing import Any

import aiohttp

from bridge.http import status
from tests.bridge.http.conftest import Serve
from tests.bridge.waiting import until


async def test_the_status_as_json(serve: Serve, client: aiohttp.ClientSession) -> None:
    async def whole() -> dict[str, Any]:
        return {"node": {"name": "Zoë", "sessions": None}}

    server = await serve(*status.routes(whole))
    async with client.get(f"{server.url}/v1/status") as response:
        assert response.content_type == "application/json"
        assert await response.json() == {"node": {"name": "Zoë", "sessions": None}}


async def test_many_who_ask_cost_one_question(serve: Serve, client: aiohttp.ClientSession) -> None:
    asked = 0
    answered = asyncio.Event()

    async def whole() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        await answered.wait()
        return {"asked": asked}

    server = await serve(*status.routes(whole))

    async def get() -> Any:
        async with client.get(f"{server.url}/v1/status") as response:
            return await response.json()

    requests = [asyncio.create_task(get()) for _ in range(20)]
    async with asyncio.timeout(10):
        await until(lambda: asked)
        answered.set()
        answers = await asyncio.gather(*requests)
    # All of them were there before the answer; only those that arrive after it is stale ask again.
    assert answers[0] == {"asked": 1}
    assert asked < len(requests)


async def test_the_next_answer_is_a_new_one(serve: Serve, client: aiohttp.ClientSession) -> None:
    asked = 0

    async def whole() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        return {"asked": asked}

    server = await serve(*status.routes(whole))
    async with asyncio.timeout(10):
        seen = 0
        while seen < 2:
            async with client.get(f"{server.url}/v1/status") as response:
                seen = (await response.json())["asked"]
