import re
from html.parser import HTMLParser
from pathlib import Path

import aiohttp
import pytest

from bridge.http import page
from tests.bridge.http.conftest import Serve

FILES = Path(page.__file__).parent


class _Markup(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


@pytest.fixture
def markup() -> _Markup:
    return _Markup((FILES / "page.html").read_text())


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")],
)
async def test_each_file_with_its_type_and_the_policy(
    serve: Serve, client: aiohttp.ClientSession, path: str, kind: str
) -> None:
    server = await serve(*page.routes())
    async with client.get(f"{server.url}{path}") as response:
        assert response.headers["Content-Type"] == f"{kind}; charset=utf-8"
        assert response.headers.getall("Content-Security-Policy") == [page.POLICY]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert await response.text()


async def test_a_host_of_another_name_gets_no_page(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    server = await serve(*page.routes())
    async with client.get(f"{server.url}/", headers={"Host": "example.org"}) as response:
        assert response.status == 421


async def test_what_the_page_asks_for_is_served(
    serve: Serve, client: aiohttp.ClientSession, markup: _Markup
) -> None:
    server = await serve(*page.routes())
    asked = [
        attributes.get("src") or attributes.get("href")
        for tag, attributes in markup.elements
        if tag in {"script", "link"} and attributes.get("rel") != "icon"
    ]
    assert len(asked) == 2
    for name in asked:
        async with client.get(f"{server.url}/{name}") as response:
            assert response.status == 200


def test_nothing_is_inline_and_nothing_comes_from_elsewhere(markup: _Markup) -> None:
    for tag, attributes in markup.elements:
        assert tag != "style"
        assert tag != "script" or attributes.get("src")
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
    for file in FILES.iterdir():
        if file.suffix in {".html", ".css", ".js"}:
            assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", file.read_text()), file


def test_the_script_finds_its_elements(markup: _Markup) -> None:
    there = [attributes["id"] for _, attributes in markup.elements if "id" in attributes]
    assert len(there) == len(set(there))
    script = (FILES / "page.js").read_text()
    wanted = set(re.findall(r"""\$\("([\w-]+)"\)|facts\("(\w+)",""", script))
    assert {name for pair in wanted for name in pair if name} <= set(there)
    assert len(wanted) > 10
    for tag, attributes in markup.elements:
        for name in (attributes.get("aria-labelledby") or "").split():
            assert name in there, tag
