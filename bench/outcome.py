"""What every benchmark does alike: bars while it runs, then its numbers, its tables, its status."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def progress_bars(console: Console) -> Progress:
    """Bars that count steps."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def conclude(
    results: dict[str, Any],
    reached: bool,
    path: Path,
    report: Callable[[dict[str, Any], Console], None],
    console: Console,
) -> int:
    """Writes the numbers, prints the report; the exit status, 1 when a target is missed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    report(results, Console())
    console.print(f"numbers: {path}", highlight=False)
    return 0 if reached else 1
