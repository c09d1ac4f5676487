"""The capacity estimate against what happens: predict from the first sessions, then open them all.

    python -m bench.capacity [--sessions 50000 500000] [--clients 2000 8000] [--json FILE]

Two private nodes with Megaphone attached; one is given simulated sessions (light processes in
ejabberd's own session table), the other real clients over TCP. The first part comes in steps, each
long enough for the port program to observe it. Then `megaphone capacity` says what a session costs
and what the node uses; what that makes for all of them is compared with what they do use.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from bench.broadcast.node import MeasuredNode
from bench.outcome import conclude, progress_bars
from metrics.capacity import INTERVAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from rich.progress import Progress

    Open = Callable[[int], None]
    Source = Callable[[MeasuredNode, int, Callable[[int], object]], AbstractContextManager[Open]]

#: How far the prediction may be off.
TARGET_ERROR: Final = 0.1

#: Steps in which the first sessions come.
STEPS: Final = 10
#: Seconds until the port program must have observed a step, or the node's count must be right.
OBSERVED_TIMEOUT: Final = 6 * INTERVAL
#: Seconds for clients to log in, each step.
LOGIN_TIMEOUT: Final = 600.0

RESULTS: Final = Path(__file__).resolve().parents[1] / "results/capacity.json"

_PASSWORD: Final = "secret"
_HOST: Final = "localhost"
_REGISTER: Final = """
lists:foreach(fun(N) ->
    ok = ejabberd_auth:try_register(<<"user", (integer_to_binary(N))/binary>>, <<"{host}">>,
                                    <<"{password}">>)
end, lists:seq(1, {count})),
registered
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs it; 1 when a prediction is off by more than the target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    two = {"type": int, "nargs": 2, "metavar": ("FIRST", "ALL")}
    parser.add_argument("--sessions", **two, default=[50_000, 500_000], help="simulated")
    parser.add_argument("--clients", **two, default=[2_000, 8_000], help="real, over TCP")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the numbers go")
    chosen = parser.parse_args(arguments)
    for first, everything in (chosen.sessions, chosen.clients):
        if not STEPS <= first < everything:
            parser.error(f"FIRST must be {STEPS} at least, and less than ALL")
    console = Console(stderr=True)
    with progress_bars(console) as progress:
        runs = {
            "simulated": _run("simulated sessions", chosen.sessions, simulated, progress),
            "clients": _run("clients over TCP", chosen.clients, clients, progress),
        }
    results = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "runs": runs,
        "targets": {name: abs(run["error"]) <= TARGET_ERROR for name, run in runs.items()},
    }
    reached = all(results["targets"].values())
    return conclude(results, reached, chosen.json, report, console)


@contextmanager
def simulated(node: MeasuredNode, most: int, progress: Callable[[int], object]) -> Iterator[Open]:
    """Gives what opens sessions until there are so many."""
    node.prepare_sessions(most)

    def open_sessions(count: int) -> None:
        node.open_sessions(count, progress)

    yield open_sessions


@contextmanager
def clients(node: MeasuredNode, most: int, progress: Callable[[int], object]) -> Iterator[Open]:
    """Gives what logs clients in until there are so many."""
    registering = _REGISTER.format(host=_HOST, password=_PASSWORD, count=most)
    if (answer := node.node.eval(registering, timeout=LOGIN_TIMEOUT)) != "registered":
        raise RuntimeError(f"the node answered {answer}")
    program = [sys.executable, "-m", "bench.capacity.clients"]
    arguments = [str(node.node.c2s_port), _HOST, _PASSWORD]
    with subprocess.Popen(
        program + arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        source, sink = process.stdout, process.stdin

        def log_in(count: int) -> None:
            sink.write(f"{count}\n")
            sink.flush()
            if source.readline() != f"{count}\n":
                raise RuntimeError("a client could not log in; its error is above")
            progress(count)

        try:
            yield log_in
        finally:
            process.terminate()


def _run(title: str, counts: list[int], source: Source, progress: Progress) -> dict[str, Any]:
    first, everything = counts
    task = progress.add_task(title, total=everything)
    with (
        MeasuredNode(host=_HOST) as node,
        source(node, everything, lambda count: progress.update(task, completed=count)) as open_,
    ):
        for step in range(1, STEPS + 1):
            open_(first * step // STEPS)
            memory = _observed(node, first * step // STEPS)
        predicted = memory["used"] + memory["cost"] * (everything - memory["sessions"])
        open_(everything)
        after = _observed(node, everything)
        used = node.node_resident_bytes()
    return {
        "first": first,
        "all": everything,
        "cost": memory["cost"],
        "cost_after": after["cost"],
        "method": memory["method"],
        "used_first": memory["used"],
        "predicted": predicted,
        "used": used,
        "error": predicted / used - 1,
    }


def _observed(node: MeasuredNode, sessions: int) -> dict[str, Any]:
    """The estimate for memory, once the port program has observed so many sessions."""
    deadline = time.monotonic() + OBSERVED_TIMEOUT
    while True:
        estimates = node.status()["bridge"]["capacity"] or []
        for estimate in estimates:
            if estimate["resource"] == "memory" and estimate["sessions"] == sessions:
                return dict(estimate)
        if time.monotonic() > deadline:
            raise TimeoutError(f"{sessions} sessions were not observed: {estimates}")
        time.sleep(INTERVAL / 20)


def report(results: dict[str, Any], console: Console) -> None:
    """Prints the table."""
    table = Table(title="resident memory of the node", box=box.SIMPLE_HEAD)
    for name in ("", "first", "all", "a session", "predicted", "used", "error"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for name, run in results["runs"].items():
        table.add_row(
            name,
            f"{run['first']:,}",
            f"{run['all']:,}",
            f"{run['cost'] / 1e3:.1f} kB",
            f"{run['predicted'] / 1e6:,.0f} MB",
            f"{run['used'] / 1e6:,.0f} MB",
            f"{run['error']:+.1%}",
        )
    console.print(table)
    for name, reached in results["targets"].items():
        verdict = "reached" if reached else "MISSED"
        console.print(f"{name}: within {TARGET_ERROR:.0%}: {verdict}", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
