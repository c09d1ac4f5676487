"""`/`: the bridge's own page, three files that ask for nothing but the status; see docs/page.md."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from aiohttp import web

#: The page runs its own script and asks its own server, nothing else. Where browsers know Trusted
#: Types, no text can become markup in it.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)

_FILES: Final = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}


def routes() -> list[web.RouteDef]:
    """Give the routes of this family."""
    return [_route(path, name, kind) for path, (name, kind) in _FILES.items()]


def _route(path: str, name: str, kind: str) -> web.RouteDef:
    body = (Path(__file__).parent / name).read_bytes()

    async def get(_: web.Request) -> web.Response:
        return web.Response(
            body=body,
            content_type=kind,
            charset="utf-8",
            headers={"Content-Security-Policy": POLICY},
        )

    return web.get(path, get, allow_head=False)
