"""Casts between GenServers, and the memory of idle ones, beside asyncio's tasks with queues.

    python -m bench.otp [--rounds 9] [--casts 300000] [--idle 100000] [--json FILE]

Casts are measured in processor time: others may be at work here as well. A number is the median of
the rounds, in which the two take turns. Memory is what a fresh process's resident set grows by.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

if __package__ in {None, ""}:  # Run as a script: the checkout is not in sys.path.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.otp.casts import WORK
from bench.outcome import conclude

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

ROOT: Final = Path(__file__).resolve().parents[2]
RESULTS: Final = ROOT / "bench/results/otp.json"

#: Casts a second.
TARGETS: Final = {"one in flight": 200_000.0, "flooded": 1_500_000.0}
#: Bytes of `TARGET_IDLE` idle GenServers.
TARGET_MEMORY: Final = 150_000_000
TARGET_IDLE: Final = 100_000

#: What bench.otp.idle calls them.
_IDLE: Final = {"GenServer": "servers", "task and queue": "queues"}


def main(arguments: list[str] | None = None) -> int:
    """Runs it; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9, help="measures of each rate")
    parser.add_argument("--casts", type=int, default=300_000, help="casts of one measure")
    parser.add_argument("--idle", type=int, default=TARGET_IDLE, help="idle processes")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the numbers go")
    chosen = parser.parse_args(arguments)
    if min(chosen.rounds, chosen.idle) < 1 or chosen.casts < 2 or chosen.casts % 2:
        parser.error("--rounds and --idle must be positive, --casts positive and even")
    console = Console(stderr=True)
    results = measure(chosen.rounds, chosen.casts, chosen.idle, console)
    reached = all(results["targets"].values())
    return conclude(results, reached, chosen.json, report, console)


def measure(rounds: int, casts: int, idle: int, console: Console) -> dict[str, Any]:
    """Takes all measures, the kinds of processes in turn."""
    rates: dict[str, dict[str, list[float]]] = {
        kind: {name: [] for name in work} for kind, work in WORK.items()
    }
    for _ in track(range(rounds), "rounds", console=console):
        for name in TARGETS:
            for kind, work in WORK.items():
                rates[kind][name].append(_rate(work[name], casts))
    medians = {
        kind: {name: statistics.median(values) for name, values in measured.items()}
        for kind, measured in rates.items()
    }
    memory = {kind: _memory(argument, idle) for kind, argument in _IDLE.items()}
    mine = medians["GenServer"]
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "rounds": rounds,
        "casts": casts,
        "idle": idle,
        "rates": rates,
        "medians": medians,
        "memory": memory,
        "targets": {
            **{name: mine[name] >= target for name, target in TARGETS.items()},
            "memory": memory["GenServer"] <= _allowed(idle),
        },
    }


def _allowed(idle: int) -> float:
    return TARGET_MEMORY * idle / TARGET_IDLE


def _rate(work: Callable[[int], Coroutine[Any, Any, float]], casts: int) -> float:
    gc.collect()
    return casts / asyncio.run(work(casts))


def _memory(kind: str, count: int) -> int:
    outcome = subprocess.run(
        [sys.executable, "-m", "bench.otp.idle", kind, str(count)],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
    )
    return int(outcome.stdout)


def report(results: dict[str, Any], console: Console) -> None:
    """Prints the table."""
    table = Table(title="between processes in Python; medians", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for name in TARGETS:
        table.add_column(f"{name}\ncasts/s", justify="right", no_wrap=True)
    table.add_column(f"{results['idle']:,} idle\nMB", justify="right", no_wrap=True)
    for kind, medians in results["medians"].items():
        rates = (f"{medians[name]:,.0f}" for name in TARGETS)
        table.add_row(kind, *rates, f"{results['memory'][kind] / 1e6:,.0f}")
    console.print(table)
    mine = results["medians"]["GenServer"]
    texts = {
        **{
            name: f"{name}: {mine[name]:,.0f} casts/s (at least {target:,.0f})"
            for name, target in TARGETS.items()
        },
        "memory": f"{results['idle']:,} idle GenServers:"
        f" {results['memory']['GenServer'] / 1e6:,.0f} MB"
        f" (at most {_allowed(results['idle']) / 1e6:,.0f} MB)",
    }
    for name, text in texts.items():
        verdict = "reached" if results["targets"][name] else "MISSED"
        console.print(f"{text}: {verdict}", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
