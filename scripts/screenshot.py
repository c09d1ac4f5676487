"""Takes the README's picture of the dashboard anew, from a real run of two minutes.

.venv/bin/python scripts/screenshot.py
"""

import asyncio
import tempfile
import time
from pathlib import Path

from bridge.cli.dashboard import RANGE
from tests.e2e import dashboard
from tests.support.chromium import browser
from tests.support.processes import wait_until

PICTURE = Path(__file__).parents[1] / "docs/images/dashboard.png"

#: What is seen of the page, in CSS pixels: the first rows.
SIZE = (1180, 1060)

#: Bytes; it is a part of the repository.
LIMIT = 200_000


def main() -> None:
    """Take it."""
    with tempfile.TemporaryDirectory() as directory, dashboard.running(Path(directory)) as shown:
        print(f"waiting until the charts are full: {RANGE} seconds", flush=True)
        scraped = f'count_over_time(up{{job="megaphone"}}[{RANGE}s])'
        wait_until(
            lambda: any(n >= 0.95 * RANGE for n in shown.prometheus.numbers(scraped)), 3 * RANGE
        )
        picture = asyncio.run(_taken(f"{shown.page}#range={RANGE}"))
    assert len(picture) < LIMIT, len(picture)
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_bytes(picture)
    print(f"{PICTURE}: {len(picture)} bytes, {time.strftime('%F')}")


async def _taken(url: str) -> bytes:
    async with browser() as page:
        await page.resize(*SIZE)
        await page.prefer("light")
        await page.open(url)
        await page.wait_for(
            "document.querySelectorAll('.panel:nth-child(-n+3) polyline').length > 9"
        )
        return await page.screenshot()


if __name__ == "__main__":
    main()
