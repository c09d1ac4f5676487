"""Megaphone's personalised broadcast beside mod_announce's announce_online.

    python bench/broadcast/run.py [--sessions 100000] [--rounds 5] [--broadcasts 10]
                                      [--option KEY=VALUE] [--sidecar] [--json FILE]

A private node, simulated sessions in its own session table, and the two ways in turn on the same
sessions. Each round fails unless every session got its text exactly once. The port program's memory
is read after each of Megaphone's broadcasts.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

if __package__ in {None, ""}:  # Run as a script: the checkout is not in sys.path.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.broadcast.node import MeasuredNode
from bench.outcome import conclude, progress_bars

#: What is to be reached: times mod_announce, and bytes of the port program with its workers.
TARGET_RATIO: Final = 3.0
TARGET_BYTES: Final = 150 * 1000 * 1000

#: Growth of the memory from the third broadcast to the last that still counts as flat, in bytes.
FLAT_BYTES: Final = 5 * 1000 * 1000

RESULTS: Final = Path(__file__).resolve().parents[1] / "results/broadcast.json"

WAYS: Final = ("megaphone", "mod_announce")


def main(arguments: list[str] | None = None) -> int:
    """Runs it; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sessions", type=int, default=100_000, help="simulated sessions")
    parser.add_argument("--rounds", type=int, default=5, help="of both ways, in turn")
    parser.add_argument("--broadcasts", type=int, default=10, help="of Megaphone's, for its memory")
    parser.add_argument("--option", action="append", default=[], help="of mod_megaphone, KEY=VALUE")
    parser.add_argument("--sidecar", action="store_true", help="at a Unix socket, not at a port")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the numbers go")
    chosen = parser.parse_args(arguments)
    if min(chosen.sessions, chosen.rounds, chosen.broadcasts) < 1:
        parser.error("numbers must be positive")
    console = Console(stderr=True)
    results = measure(chosen, console)
    reached = all(results["targets"].values())
    return conclude(results, reached, chosen.json, report, console)


def measure(chosen: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Takes all measures; every number in seconds or bytes."""
    sessions, rounds, broadcasts = chosen.sessions, chosen.rounds, chosen.broadcasts
    with progress_bars(console) as progress:
        booting = progress.add_task("node and attach", total=1)
        with MeasuredNode(options=chosen.option, sidecar=chosen.sidecar) as node:
            progress.update(booting, completed=1)
            opening = progress.add_task("sessions", total=sessions)
            node.prepare_sessions(sessions)
            opened = node.open_sessions(
                sessions, lambda count: progress.update(opening, completed=count)
            )
            memory = [node.resident_bytes()]
            taken: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
            running = progress.add_task("broadcasts", total=max(rounds, broadcasts) + rounds)
            for number in range(max(rounds, broadcasts)):
                # Who goes first takes turns: the machine's state is part of every number.
                ways = WAYS[:1] if number >= rounds else WAYS if number % 2 == 0 else WAYS[::-1]
                for way in ways:
                    taken[way].append(node.broadcast(way))
                    if way == "megaphone":
                        memory.append(node.resident_bytes())
                    progress.advance(running)
            status = node.status()
            node_bytes = node.node_resident_bytes()
    return {
        "machine": {
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "python": platform.python_version(),
            "ejabberd": status["node"]["ejabberd"],
            "otp": status["node"]["otp"],
            "workers": len(status["bridge"]["workers"]),
        },
        "time": time.time(),
        "options": chosen.option,
        "sidecar": chosen.sidecar,
        "sessions": sessions,
        "open_seconds": opened,
        "rounds": taken,
        "memory": memory,
        "node_bytes": node_bytes,
        **_summary(taken, rounds, memory),
    }


def _summary(
    taken: dict[str, list[dict[str, Any]]], rounds: int, memory: list[dict[str, int]]
) -> dict[str, Any]:
    # Only rounds that both ways took part in are compared.
    ways = {way: _way(results[:rounds]) for way, results in taken.items()}
    totals = [sum(sizes.values()) for sizes in memory]
    ratios = {
        name: ways["megaphone"][name] / ways["mod_announce"][name]
        for name in ("delivery_rate", "whole_rate")
    }
    settled = totals[min(3, len(totals) - 1) :]
    return {
        "ways": ways,
        "ratios": ratios,
        "memory_totals": totals,
        "targets": {
            "ratio": min(ratios.values()) >= TARGET_RATIO,
            "memory": max(totals) <= TARGET_BYTES,
            "flat": settled[-1] - settled[0] <= FLAT_BYTES,
        },
    }


def _way(results: list[dict[str, Any]]) -> dict[str, float]:
    """Medians over the rounds.

    `delivery_rate`: messages a second from the first delivery to the last. `whole_rate`: from the
    moment that it was asked for, templates checked and audience walked included, to the last.
    """
    return {
        "delivery_rate": statistics.median(
            result["messages"] / (result["last"] - result["first"]) for result in results
        ),
        "whole_rate": statistics.median(result["messages"] / result["last"] for result in results),
        **{
            name: statistics.median(result[name] for result in results)
            for name in ("accepted", "first", "last", "done", "cpu")
        },
    }


def report(results: dict[str, Any], console: Console) -> None:
    """Prints the tables."""
    machine = results["machine"]
    table = Table(
        title=f"{results['sessions']:,} sessions, ejabberd {machine['ejabberd']}, OTP "
        f"{machine['otp']}, {machine['cores']} cores, {machine['workers']} worker(s); medians",
        box=box.SIMPLE,
    )
    headings = ("", "messages/s", "from request", "first", "last", "done", "CPU")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "" else "right", no_wrap=True)
    for way, values in results["ways"].items():
        table.add_row(
            way,
            f"{values['delivery_rate']:,.0f}",
            f"{values['whole_rate']:,.0f}",
            *(f"{values[name]:.2f} s" for name in ("first", "last", "done", "cpu")),
        )
    table.add_row("ratio", *(f"{ratio:.1f}" for ratio in results["ratios"].values()))
    console.print(table)
    totals = [f"{total / 1e6:.0f}" for total in results["memory_totals"]]
    console.print(f"port program and workers, MB after each broadcast: {' '.join(totals)}")
    console.print(f"node: {results['node_bytes'] / 1e6:,.0f} MB")
    for name, met in results["targets"].items():
        console.print(f"target {name}: {'met' if met else 'MISSED'}")


if __name__ == "__main__":
    sys.exit(main())
