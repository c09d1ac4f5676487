"""Calls from Erlang to a Python gen_server, beside what only echoes frames, and beside erlport.

    python -m bench.call [--rounds 5] [--json FILE]

Each program has a node of its own, the same proxies and the same callers; rounds are interleaved,
numbers are medians. ERLPORT_HOME names a checkout of erlport; without it the row is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.call.node import HERE, CallNode, echo_in_c, echo_in_python
from bench.outcome import conclude

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS: Final = HERE.parent / "results/call.json"

#: One caller at a time: at most so many times the Python echo's round trip.
TARGET_ONE: Final = 1.6
#: Twenty callers: at least so many times erlport's calls a second.
TARGET_TWENTY: Final = 5.0
#: A thousand callers: at least so much of the C echo's calls a second.
TARGET_THOUSAND: Final = 0.3

_SETTINGS: Final = f"""
python_path = [{json.dumps(str(HERE))}]

[servers.echo]
start = "echo_server:Echo"
"""


class Peer(NamedTuple):
    """What is called: the node, and the Erlang text of the server there."""

    node: CallNode
    server: str


class Measure(NamedTuple):
    """A column of the table."""

    name: str
    unit: str
    take: Callable[[Peer], float]


MEASURES: Final = (
    Measure("one caller", "us", lambda peer: peer.node.one(2000, peer.server)),
    Measure("20 callers", "calls/s", lambda peer: peer.node.many(20, 20_000, peer.server)),
    Measure("1,000 callers", "calls/s", lambda peer: peer.node.many(1000, 50_000, peer.server)),
)


def main(arguments: list[str] | None = None) -> int:
    """Runs it; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5, help="measures of each number")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the numbers go")
    chosen = parser.parse_args(arguments)
    if chosen.rounds < 1:
        parser.error("--rounds must be positive")
    console = Console(stderr=True)
    results = measure(chosen.rounds, console)
    reached = all(results["targets"].values())
    return conclude(results, reached, chosen.json, report, console)


def measure(rounds: int, console: Console) -> dict[str, Any]:
    """Takes all measures, the programs in turn."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        programs = {
            "megaphone": (Path(sys.executable), _SETTINGS),
            "echo in Python": (echo_in_python(directory), ""),
            "echo in C": (echo_in_c(directory), ""),
        }
        peers = {
            name: Peer(stack.enter_context(CallNode(program, "echo", settings)), "echo")
            for name, (program, settings) in programs.items()
        }
        home = os.environ.get("ERLPORT_HOME")
        if home is not None:
            node = peers["echo in C"].node
            peers["erlport"] = Peer(node, node.start_erlport(Path(home)))
        taken: dict[str, dict[str, list[float]]] = {
            name: {one.name: [] for one in MEASURES} for name in peers
        }
        for _ in track(range(rounds), "rounds", console=console):
            for one in MEASURES:
                for name, peer in peers.items():
                    taken[name][one.name].append(one.take(peer))
    medians = {
        name: {column: statistics.median(values) for column, values in columns.items()}
        for name, columns in taken.items()
    }
    ratios = {
        "one": medians["megaphone"]["one caller"] / medians["echo in Python"]["one caller"],
        "thousand": medians["megaphone"]["1,000 callers"] / medians["echo in C"]["1,000 callers"],
    }
    targets = {
        "one": ratios["one"] <= TARGET_ONE,
        "thousand": ratios["thousand"] >= TARGET_THOUSAND,
    }
    if "erlport" in medians:
        erlport = medians["erlport"]["20 callers"]
        ratios["twenty"] = medians["megaphone"]["20 callers"] / erlport
        # What any program could reach: this one does nothing, and has the same proxy before it.
        ratios["twenty_in_c"] = medians["echo in C"]["20 callers"] / erlport
        targets["twenty"] = ratios["twenty"] >= TARGET_TWENTY
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "rounds": rounds,
        "taken": taken,
        "medians": medians,
        "ratios": ratios,
        "targets": targets,
    }


def report(results: dict[str, Any], console: Console) -> None:
    """Prints the table."""
    table = Table(title="calls from Erlang; medians", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for one in MEASURES:
        table.add_column(f"{one.name}\n{one.unit}", justify="right", no_wrap=True)
    for name, columns in results["medians"].items():
        table.add_row(name, *(f"{columns[one.name]:,.0f}" for one in MEASURES))
    console.print(table)
    texts = {
        "one": f"one caller, times the Python echo's: {{:.2f}} (at most {TARGET_ONE:g})",
        "twenty": f"20 callers, times erlport's: {{:.1f}} (at least {TARGET_TWENTY:g};"
        f" the C echo's: {results['ratios'].get('twenty_in_c', 0):.1f})",
        "thousand": f"1,000 callers, part of the C echo's: {{:.2f}} (at least {TARGET_THOUSAND:g})",
    }
    for name, text in texts.items():
        if name in results["ratios"]:
            verdict = "reached" if results["targets"][name] else "MISSED"
            console.print(f"{text.format(results['ratios'][name])}: {verdict}", highlight=False)
    if "twenty" not in results["ratios"]:
        console.print("erlport: not measured: ERLPORT_HOME names no checkout", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
