import asyncio
from typing import Any

from bridge.http.snapshots import Snapshots
from tests.bridge.waiting import until


async def test_one_that_is_fresh_serves_again_and_a_stale_one_does_not() -> None:
    asked = 0

    async def status() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        return {"asked": asked}

    snapshots = Snapshots(status)
    first = await snapshots.get(0)
    assert first.body == b'{"asked": 1}'
    assert await snapshots.get(3600) is first
    async with asyncio.timeout(10):
        while (second := await snapshots.get(1e-6)) is first:
            pass
    assert second.body == b'{"asked": 2}'


async def test_who_asks_meanwhile_gets_the_same() -> None:
    asked = 0
    answer = asyncio.Event()

    async def status() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        await answer.wait()
        return {}

    snapshots = Snapshots(status)
    waiting = [asyncio.create_task(snapshots.get(60)) for _ in range(10)]
    await until(lambda: asked)
    answer.set()
    assert len({id(await one) for one in waiting}) == 1
    assert asked == 1


async def test_who_gives_up_leaves_the_question_to_the_next() -> None:
    asked = 0
    answer = asyncio.Event()

    async def status() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        await answer.wait()
        return {}

    snapshots = Snapshots(status)
    impatient = asyncio.create_task(snapshots.get(60))
    patient = asyncio.create_task(snapshots.get(60))
    await until(lambda: asked)
    impatient.cancel()
    answer.set()
    assert (await patient).body == b"{}"


async def test_clocks_are_no_change_and_what_happens_is() -> None:
    document: dict[str, Any] = {
        "node": {"sessions": 1, "uptime_seconds": 1.5},
        "port": {"connected_seconds": 1.0, "credit_bytes": 7},
        "bridge": {"rss_bytes": 1, "tree": {"children": [{"id": "a", "uptime_seconds": 1}]}},
    }

    async def status() -> dict[str, Any]:
        return document

    snapshots = Snapshots(status)

    async def taken() -> int:
        snapshots._taken = float("-inf")
        return (await snapshots.get(0)).change

    first = await taken()
    document["node"] = {"sessions": 1, "uptime_seconds": 2.5}
    document["port"] = {"connected_seconds": 2.0, "credit_bytes": 5}
    document["bridge"] = {
        "rss_bytes": 2,
        "tree": {"children": [{"id": "a", "uptime_seconds": 2}]},
    }
    assert await taken() == first
    document["node"] = {"sessions": 2, "uptime_seconds": 2.5}
    second = await taken()
    assert second != first
    document["bridge"] = {"rss_bytes": 2, "tree": {"children": []}}
    assert await taken() != second
