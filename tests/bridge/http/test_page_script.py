"""The page's script in a real browser, and a server that does to it what a live one seldom does."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridge.http import events, page, status
from bridge.http.server import STREAMS
from tests.bridge.http.conftest import Serve
from tests.bridge.waiting import until
from tests.support.chromium import Page, browser

LIVE = "document.body.dataset.state === 'live'"
LOST = "document.body.dataset.state === 'lost'"
MARKUP = "<img src=x onerror=\"document.title='run'\"><b>bold</b>"


def broadcast(name: str, state: str, **changes: object) -> dict[str, Any]:
    return {
        "id": name,
        "state": state,
        "error": None,
        "type": "headline",
        "way": "session",
        "recipients": 1000,
        "sent": 250,
        "gone": 0,
        "dropped": 0,
        "failed": 0,
        "started": 1.7e9,
        "seconds": 3.25,
    } | changes


def estimate(resource: str, method: str = "trend") -> dict[str, Any]:
    return {
        "resource": resource,
        "sessions": 1000,
        "used": 2.5e9 if resource == "memory" else 1234.5,
        "limit": 3e9,
        "usable": 2.85e9,
        "cost": 0.0000125 if resource == "cpu" else 6600.0,
        "capacity": 54321.0,
        "low": 50000.0,
        "high": 60000.0,
        "method": method,
    }


class Status:
    """A status document that the test changes."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = {
            "node": {
                "name": MARKUP,
                "ejabberd": "23.01",
                "otp": "25",
                "version": "0.1.0",
                "vhosts": [f"host{n}.test" for n in range(2000)],
                "sessions": None,
                "uptime_seconds": 90061.0,
            },
            "port": {"state": "connected", "reason": None, "restarts": 0, "queued_bytes": 0},
            "broadcasts": [
                broadcast("b3", "resolving"),
                broadcast("b2", "running"),
                broadcast("b1", "failed", error=MARKUP),
            ],
            "bridge": {
                "version": "0.1.0",
                "python": "3.11.2",
                "pid": 1,
                "processes": 3,
                "uptime_seconds": 1.0,
                "rss_bytes": 55_000_000,
                "loop_lag_seconds": 0.002,
                "workers": [],
                "tree": None,
            },
        }

    async def whole(self) -> dict[str, Any]:
        return self.document


@pytest.fixture
async def chromium(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Page]:
    """A page whose timers run ten times as fast, and events that do."""
    monkeypatch.setattr(events, "INTERVAL", events.INTERVAL / 10)
    monkeypatch.setattr(events, "QUIET", events.QUIET / 10)
    async with browser() as one:
        quick = "const slow = setTimeout; window.setTimeout = (f, ms) => slow(f, ms / 10);"
        await one.call("Page.addScriptToEvaluateOnNewDocument", source=quick)
        yield one


async def text(one: Page, name: str) -> str:
    return str(await one.evaluate(f"document.getElementById('{name}').innerText"))


async def test_whatever_is_told_is_text_and_what_is_not_known_is_said(
    serve: Serve, chromium: Page
) -> None:
    told = Status()
    server = await serve(*page.routes(), *status.routes(told.whole))
    await chromium.open(f"{server.url}/")
    await chromium.wait_for(LIVE)
    assert await text(chromium, "name") == MARKUP
    assert MARKUP in await text(chromium, "past")
    assert await chromium.evaluate("document.querySelectorAll('img, b').length") == 0
    assert await chromium.evaluate("document.title") != "run"
    shown = await text(chromium, "node")
    assert "Sessions\nnot known" in shown
    assert "host4.test and 1,995 more" in shown
    assert "1 d 1 h" in shown
    assert "not known yet" in await text(chromium, "verdict")
    bars = "[...document.querySelectorAll('#running progress')].map((bar) => bar.position)"
    assert await chromium.evaluate(bars) == [-1, 0.25]
    assert "250 of 1,000 recipients (25%) in 3.25 s" in await text(chromium, "running")

    told.document["bridge"]["capacity"] = [estimate("memory"), estimate("cpu", "average")]
    await chromium.wait_for("document.querySelectorAll('#headroom tr').length === 2")
    assert "Memory ends first, at about 54,300 sessions." in await text(chromium, "verdict")
    rows = (await text(chromium, "headroom")).splitlines()
    assert rows[0].split("\t")[:6] == [
        *("Memory", "2.5 GB", "2.85 GB", "6.6 kB", "54,300"),
        "50,000 and 60,000",
    ]
    assert "12.5 millionths of a core*" in rows[1]
    label = "document.querySelector('#headroom meter').ariaLabel"
    assert await chromium.evaluate(label) == "Memory: 1,000 sessions of 54,300"

    # A broadcast that ends moves, and is announced.
    told.document["broadcasts"] = [broadcast("b3", "done"), broadcast("b2", "running")]
    await chromium.wait_for("document.querySelectorAll('#running li').length === 1")
    assert await chromium.evaluate("document.getElementById('news').textContent") == (
        "Broadcast b3 is over: done, 250 sent."
    )

    # Without the node nothing stays of what it had told.
    told.document |= {
        "node": None,
        "broadcasts": [],
        "port": {"state": "down", "reason": "it hangs"},
    }
    told.document["bridge"]["capacity"] = None
    await chromium.wait_for("document.getElementById('name').textContent === ''")
    assert await text(chromium, "connection") == "Live, but nothing is known of the node: it hangs"
    assert "1 d 1 h" not in await text(chromium, "node")
    for part in ("running-none", "past-none"):
        assert await text(chromium, part) == "Not known: the node does not answer."
    assert "not known yet" in await text(chromium, "verdict")
    assert chromium.complaints == []

    # What the page cannot show it does not pass over.
    del told.document["bridge"]["workers"]
    await chromium.wait_for(LOST)
    assert "cannot be shown" in await text(chromium, "connection")


async def test_where_no_stream_comes_through_it_asks(
    serve: Serve, chromium: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MAX_LISTENERS", 0)
    server = await serve(*page.routes(), *status.routes(Status().whole))
    await chromium.open(f"{server.url}/")
    await chromium.wait_for(LIVE)
    await until(lambda: chromium.requests.count(f"{server.url}/v1/status") > 3)
    # The stream is tried again, and taken.
    monkeypatch.setattr(events, "MAX_LISTENERS", 1)
    await until(lambda: server._application[STREAMS])
    assert await chromium.evaluate(LIVE)


async def test_a_server_that_says_nothing_is_lost(serve: Serve, chromium: Page) -> None:
    awake = asyncio.Event()
    told = Status()

    async def whole() -> dict[str, Any]:
        await awake.wait()
        return told.document

    server = await serve(*page.routes(), *status.routes(whole))
    awake.set()
    await chromium.open(f"{server.url}/")
    await chromium.wait_for(LIVE)
    assert f"{server.url}/v1/status" not in chromium.requests
    # Nothing ends: the connections stay, and nobody answers.
    awake.clear()
    await chromium.wait_for(LOST)
    assert "Connection lost. What is shown is of " in await text(chromium, "connection")
    assert await chromium.evaluate("document.title.startsWith('Lost: ')")
    awake.set()
    await chromium.wait_for(LIVE)


async def test_while_nobody_looks_nobody_asks(serve: Serve, chromium: Page) -> None:
    server = await serve(*page.routes(), *status.routes(Status().whole))
    await chromium.open(f"{server.url}/")
    await chromium.wait_for(LIVE)
    look = (
        "Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    await chromium.evaluate(look.format(hidden="true"))
    await until(lambda: not server._application[STREAMS])
    assert await text(chromium, "connection") == "Not followed while nobody looks"
    asked = len(chromium.requests)
    await chromium.evaluate(look.format(hidden="false"))
    await chromium.wait_for(LIVE)
    assert f"{server.url}/v1/events" in chromium.requests[asked:]
