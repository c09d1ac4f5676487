"""The browser sees what the tests of pages rely on it to see."""

from tests.support.chromium import browser
from tests.support.processes import with_environment

PAGE = """data:text/html,<meta name="color-scheme" content="light dark"><input id="a"><input id="b">
<script>console.error("said"); undefined_function();</script><img src="http://elsewhere.test/x.png">
"""


async def test_a_page_and_what_it_does(monkeypatch):
    monkeypatch.setenv("MEGAPHONE_TEST_BROWSER", "1")
    async with browser() as page:
        await page.open(PAGE.replace("\n", ""))
        await page.wait_for("document.querySelector('img').complete")
        assert "http://elsewhere.test/x.png" in page.requests
        assert [text for text in page.complaints if "said" in text]
        assert [text for text in page.complaints if "undefined_function" in text]
        await page.press("Tab")
        assert await page.evaluate("document.activeElement.id") == "a"
        await page.press("Tab")
        await page.press("Tab", shift=True)
        assert await page.evaluate("document.activeElement.id") == "a"
        await page.prefer("dark")
        assert await page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        await page.resize(400, 300)
        assert await page.evaluate("innerWidth") == 400
        assert (await page.screenshot()).startswith(b"\x89PNG")
        assert with_environment("MEGAPHONE_TEST_BROWSER", "1")
    assert not with_environment("MEGAPHONE_TEST_BROWSER", "1")
