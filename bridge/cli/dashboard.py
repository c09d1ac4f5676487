"""`megaphone dashboard`: the dashboard in a Prometheus of its own, with life on a private node."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from bridge import embedded_prometheus
from bridge.cli.errors import CommandError, ExitStatus
from bridge.cli.stage import stage
from bridge.embedded_prometheus import EmbeddedPrometheus
from metrics.dashboards.panels import ROWS

if TYPE_CHECKING:
    from bridge.cli.stage import Stage
    from metrics.dashboards.panel import Panel

#: Seconds that the page shows at first: what is new is seen to move.
RANGE: Final = 120

#: Seconds until every panel must have something to show.
DATA_TIMEOUT: Final = 120.0

#: Seconds between two looks at that, and at whether Prometheus runs.
_LOOK: Final = 1.0

#: What the rates of the panels are taken over here; scrapes are a second apart.
_WINDOW: Final = "20s"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("dashboard")(dashboard)


def dashboard(
    once: Annotated[
        bool, typer.Option("--once", help="End when every panel has data instead of at Ctrl-C.")
    ] = False,
    prometheus: Annotated[
        str, typer.Option("--prometheus", help="The Prometheus to run, by its path or name.")
    ] = "prometheus",
) -> None:
    """Start a private ejabberd with clients and broadcasts, and a Prometheus that shows it.

    Loopback only; no ejabberd and no Prometheus of yours is touched, and nothing is left behind.
    """
    console = Console(highlight=False, markup=False, soft_wrap=True)
    embedded_prometheus.find(prometheus)
    with stage(console, "dashboard", any_port=True) as found:
        if found.url is None:
            raise CommandError(
                "the port program does not listen for HTTP", f"see {found.node.log_path}"
            )
        target = found.url.removeprefix("http://")
        server = EmbeddedPrometheus(found.directory / "prometheus", [target], command=prometheus)
        console.print("starting Prometheus")
        server.start()
        try:
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(_show(found, server, console, once=once))
        finally:
            server.stop()


async def _show(found: Stage, server: EmbeddedPrometheus, console: Console, *, once: bool) -> None:
    from bridge.cli.traffic import ONLINE, Traffic  # Here: slixmpp is an extra.

    console.print(f"some {ONLINE} clients log in and out and chat; a broadcast now and then")
    living = asyncio.ensure_future(Traffic(found.node).run())
    looking = asyncio.ensure_future(_look(server, console, once=once))
    try:
        await asyncio.wait({living, looking}, return_when=asyncio.FIRST_COMPLETED)
        for task in (living, looking):
            if task.done():
                task.result()
    finally:
        for task in (living, looking):
            task.cancel()
        await asyncio.gather(living, looking, return_exceptions=True)


async def _look(server: EmbeddedPrometheus, console: Console, *, once: bool) -> None:
    """Tells where the page is, then sees it through to the end of it."""
    url = f"{server.console}#range={RANGE}"
    console.print(f"\nThe dashboard: {url}")
    if once:
        await _until_all_have_data(server, console)
        return
    console.print("Ctrl-C ends it.\n")
    browser = _open(url)
    while True:
        if browser is not None:
            browser.poll()
        server.check()
        await asyncio.sleep(_LOOK)


def _open(url: str) -> subprocess.Popen[bytes] | None:
    """Has the desktop's browser show it, if there is a desktop; waits for nothing.

    What shows it may go on in the foreground, until its user closes it.
    """
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return None
    return subprocess.Popen(
        (sys.executable, "-I", "-m", "webbrowser", url),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


async def _until_all_have_data(server: EmbeddedPrometheus, console: Console) -> None:
    panels = [panel for row in ROWS for panel in row.panels]
    waiting = list(panels)
    deadline = time.monotonic() + DATA_TIMEOUT
    while waiting:
        before = len(waiting)
        waiting = [panel for panel in waiting if not await asyncio.to_thread(_shows, server, panel)]
        if len(waiting) < before:
            console.print(f"panels with data: {len(panels) - len(waiting)} of {len(panels)}")
        elif time.monotonic() > deadline:
            raise CommandError(
                f"no data within {DATA_TIMEOUT:.0f} s in: "
                + ", ".join(panel.title for panel in waiting),
                "see whether the machine is busy, then try again",
                ExitStatus.TIMEOUT,
            )
        await asyncio.sleep(_LOOK)


def _shows(server: EmbeddedPrometheus, panel: Panel) -> bool:
    """Whether each query of the panel has a value now that is a number."""
    for query in panel.queries:
        filled = query.filled(node='job="megaphone"', window=_WINDOW)
        # A comparison drops what is not a number.
        if not server.get("query", query=f"({filled}) > -Inf")["result"]:
            return False
    return True
