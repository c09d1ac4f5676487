"""Writes both dashboards anew from the panels: `python -m metrics.dashboards`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from metrics.dashboards import console, grafana

_METRICS: Final = Path(__file__).parents[1]

#: Each file that is kept, and what it is made by.
FILES: Final[dict[Path, Callable[[], str]]] = {
    _METRICS / "prometheus/consoles/megaphone.html": console.render,
    _METRICS / "grafana/dashboards/megaphone.json": grafana.render,
}


def main() -> None:
    """Write them."""
    for path, render in FILES.items():
        path.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
