"""The bridge's own page, in a real browser, on a live node."""

import asyncio
import os
import signal

import pytest

from bridge.embedded_node import ports
from tests.bridge import waiting
from tests.e2e.support import SLOW, attach, connected, start_broadcast, until
from tests.support.chromium import browser

USERS = 8

LIVE = "document.body.dataset.state === 'live'"
LOST = "document.body.dataset.state === 'lost'"

#: What of the text that is seen stands out too little from what is behind it (WCAG 2.2, 1.4.3).
FAINT = """
(() => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    const color = numbers(getComputedStyle(element).backgroundColor);
    return color[3] === 0 && element.parentElement ? behind(element.parentElement) : color;
  };
  const own = (element) => [...element.childNodes].some(
    (node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
  return [...document.body.querySelectorAll("*")]
    .filter((element) => own(element) && element.getClientRects().length)
    .filter((element) => {
      const pair = [numbers(getComputedStyle(element).color), behind(element)].map(light);
      return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05) < 4.5;
    })
    .map((element) => element.outerHTML);
})()
"""

#: What can be reached with the keyboard, in the order of the document.
REACHABLE = """
[...document.querySelectorAll("a[href], summary, [tabindex='0']")]
  .filter((element) => element.checkVisibility()).map((element) => element.outerHTML)
"""

#: What has the focus, if that can be seen.
FOCUS = """
parseFloat(getComputedStyle(document.activeElement).outlineWidth) >= 2
  && getComputedStyle(document.activeElement).outlineStyle !== "none"
  && document.activeElement.outerHTML
"""


@pytest.fixture(scope="module")
def node(start_session_node):
    # Every life of the program listens on the same port.
    (http,) = ports.choose(1)
    node = start_session_node(
        environment={"MEGAPHONE_HTTP__PORT": str(http), "MEGAPHONE_WORKERS__COUNT": "1"}
    )
    attach(node, batch_size=1)
    return node


@pytest.fixture
async def found(node):
    return await until(lambda: connected(node))


def text(id_):
    return f"document.getElementById('{id_}').textContent"


async def press_enter(page):
    """A press that types: only such a one follows a link."""
    for kind in ("keyDown", "keyUp"):
        await page.call(
            "Input.dispatchKeyEvent", type=kind, key="Enter", text="\r", windowsVirtualKeyCode=13
        )


async def test_a_broadcast_as_it_goes_on_and_the_end_of_the_program(node, found, xmpp):
    url = found["bridge"]["http"] + "/"
    async with browser() as page:
        await page.open(url)
        await page.wait_for(LIVE)
        assert await page.evaluate(text("name")) == node.name
        for user in range(USERS):
            await xmpp(node, f"user{user}")
        await page.wait_for(f"/^Sessions{USERS}\\D/.test({text('node')})")

        broadcast = await asyncio.to_thread(start_broadcast, node, SLOW)
        await page.wait_for(
            "(() => { const bar = document.querySelector('#running progress[value]');"
            " return bar && bar.value > 0 && bar.value < 1; })()"
        )
        tree = await page.call("Accessibility.getFullAXTree")
        names = [
            entry["name"]["value"]
            for entry in tree["nodes"]
            if entry.get("role", {}).get("value") == "progressbar"
        ]
        assert names == [f"Progress of broadcast {broadcast}"]
        await page.wait_for("document.querySelector('#past tr') !== null")
        assert await page.evaluate("document.querySelectorAll('#running li').length") == 0
        row = "[...document.querySelectorAll('#past tr:first-child > *')].map((e) => e.textContent)"
        name, _, outcome, *counts, _ = await page.evaluate(row)
        assert (name, outcome) == (broadcast, "done")
        assert counts == [str(USERS), str(USERS), "0", "0", "0"]
        assert await page.evaluate(text("news")) == f"Broadcast {broadcast} is over: done, 8 sent."

        assert page.complaints == []
        assert {request.startswith((url, "data:")) for request in page.requests} == {True}
        # One stream for all of it.
        assert page.requests.count(f"{url}v1/events") == 1
        assert f"{url}v1/status" not in page.requests

        os.kill(found["port"]["os_pid"], signal.SIGKILL)
        await page.wait_for(LOST)
        assert "Connection lost. What is shown is of " in await page.evaluate(text("connection"))
        assert await page.evaluate(FAINT) == []
        await page.wait_for(LIVE)
        after = await until(lambda: connected(node))
        await page.wait_for(f"{text('program')}.includes('{after['bridge']['pid']}')")
        # By the stream again, not by asking.
        await waiting.until(lambda: page.requests.count(f"{url}v1/events") > 1)


async def test_in_either_colours_at_any_width_and_with_the_keyboard(found):
    async with browser() as page:
        await page.prefer("light")
        await page.open(found["bridge"]["http"] + "/")
        await page.wait_for(LIVE)
        background = "getComputedStyle(document.body).backgroundColor"
        light = await page.evaluate(background)
        assert await page.evaluate(FAINT) == []
        await page.prefer("dark")
        assert await page.evaluate(background) != light
        assert await page.evaluate(FAINT) == []

        # A phone, and a window of 1280 pixels magnified twice and four times.
        for width in (320, 360, 640):
            await page.resize(width, 800)
            assert await page.evaluate("document.documentElement.scrollWidth") <= width

        expected = await page.evaluate(REACHABLE)
        assert len(expected) >= 6
        reached = []
        for _ in expected:
            await page.press("Tab")
            reached.append(await page.evaluate(FOCUS))
        assert reached == expected

        await page.evaluate("document.querySelector('summary').focus()")
        await press_enter(page)
        await page.wait_for(f"{text('tree')}.includes('worker-0')")
        assert await page.evaluate("document.getElementById('tree').checkVisibility()")
        await page.evaluate("document.querySelector('.skip').focus()")
        await press_enter(page)
        assert await page.evaluate("document.activeElement.id") == "content"
