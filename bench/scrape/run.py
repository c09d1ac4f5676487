"""What a scrape costs: Prometheus asks every second, and a million sessions are open.

    python -m bench.scrape [--sessions 1000000] [--span 10] [--rounds 8] [--json FILE]

A private node, simulated sessions in its own session table. Spans with a scrape each second and
spans without take turns; the processor time of the Erlang VM and of the port program in the ones is
held against that in the others. The background samples go on in both, and some of them work for a
second every other minute: so the spans are short, and the cost is the median of the differences.
Scrapes are timed before the sessions are opened, too: their cost does not depend on how many there
are.
"""

from __future__ import annotations

import argparse
import http.client
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

if __package__ in {None, ""}:  # Run as a script: the checkout is not in sys.path.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.broadcast.node import MeasuredNode, cpu_seconds
from bench.outcome import conclude, progress_bars

if TYPE_CHECKING:
    from collections.abc import Callable

#: Share of one core that a scrape each second may cost, and seconds that one may take.
TARGET_SHARE: Final = 0.02
TARGET_LATENCY: Final = 0.020

#: Bytes of memory for each session, with room to spare.
SESSION_BYTES: Final = 9_000

#: Scrapes before the sessions are opened, and before anything is counted.
FEW: Final = 20

#: Seconds from one scrape to the next.
INTERVAL: Final = 1.0

#: Seconds after the sessions are opened, in which the VM tidies up after it.
SETTLE: Final = 20.0

RESULTS: Final = Path(__file__).resolve().parents[1] / "results/scrape.json"


class Span(NamedTuple):
    """What was used in a span, in seconds.

    Attributes:
        seconds: how long it was.
        vm: processor time of the Erlang VM.
        program: processor time of the port program.
        latencies: of each scrape in it.
    """

    seconds: float
    vm: float
    program: float
    latencies: list[float]


class Scraper:
    """Asks as Prometheus does, over one connection."""

    def __init__(self, url: str) -> None:
        """Connects to where the metrics are."""
        host, _, port = url.removeprefix("http://").partition(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=10)
        self.size = 0

    def close(self) -> None:
        """Closes the connection, which would not last until the next span."""
        self._connection.close()

    def scrape(self) -> float:
        """Asks once; seconds that it took."""
        accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
        begin = time.perf_counter()
        self._connection.request("GET", "/metrics", headers={"Accept": accept})
        response = self._connection.getresponse()
        body = response.read()
        took = time.perf_counter() - begin
        if response.status != 200 or b"\nmegaphone_up 1.0\n" not in body:
            raise RuntimeError(f"the node did not answer: {response.status} {body[:200]!r}")
        self.size = len(body)
        return took


def main(arguments: list[str] | None = None) -> int:
    """Runs it; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sessions", type=int, default=1_000_000, help="simulated sessions")
    parser.add_argument("--span", type=float, default=10.0, help="seconds of each span")
    parser.add_argument("--rounds", type=int, default=8, help="spans of each kind, in turn")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the numbers go")
    chosen = parser.parse_args(arguments)
    if min(chosen.sessions, chosen.rounds) < 1 or chosen.span < INTERVAL:
        parser.error("numbers must be positive, and a span a second at least")
    needed = chosen.sessions * SESSION_BYTES
    if needed > (free := _memory_available()):
        parser.error(
            f"{chosen.sessions:,} sessions take {needed / 1e9:.0f} GB, and {free / 1e9:.0f} GB are "
            "free: choose fewer by --sessions"
        )
    console = Console(stderr=True)
    results = measure(chosen, console)
    reached = all(results["targets"].values())
    return conclude(results, reached, chosen.json, report, console)


def measure(chosen: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Takes all measures; every number in seconds, unless it says otherwise."""
    with (
        progress_bars(console) as progress,
        MeasuredNode(environment={"MEGAPHONE_HTTP__PORT": "0"}) as node,
    ):
        status = node.status()
        scraper = Scraper(status["bridge"]["http"])
        pids = node.node.pid, status["port"]["os_pid"]
        _scrapes(scraper, FEW)
        empty = _scrapes(scraper, FEW)
        scraper.close()
        opening = progress.add_task("sessions", total=chosen.sessions)
        node.prepare_sessions(chosen.sessions)
        node.open_sessions(chosen.sessions, lambda count: progress.update(opening, completed=count))
        time.sleep(SETTLE)
        running = progress.add_task("spans", total=2 * chosen.rounds)
        spans: dict[str, list[Span]] = {"idle": [], "scraped": []}
        for _ in range(chosen.rounds):
            for kind, scrape in (("idle", None), ("scraped", scraper.scrape)):
                spans[kind].append(_span(chosen.span, pids, scrape))
                scraper.close()
                progress.advance(running)
    latencies = [one for span in spans["scraped"] for one in span.latencies]
    pairs = list(zip(spans["scraped"], spans["idle"], strict=True))
    shares = {
        part: statistics.median(
            _share(scraped, part) - _share(idle, part) for scraped, idle in pairs
        )
        for part in ("vm", "program")
    }
    return {
        "machine": {
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "python": platform.python_version(),
            "ejabberd": status["node"]["ejabberd"],
            "otp": status["node"]["otp"],
        },
        "time": time.time(),
        "sessions": chosen.sessions,
        "bytes": scraper.size,
        "spans": {kind: [span._asdict() for span in some] for kind, some in spans.items()},
        "idle_shares": {
            part: statistics.mean(_share(span, part) for span in spans["idle"])
            for part in ("vm", "program")
        },
        "shares": shares,
        "latency": {"empty": _latency(empty), "full": _latency(latencies)},
        "targets": {
            "share": sum(shares.values()) < TARGET_SHARE,
            "latency": statistics.median(latencies) <= TARGET_LATENCY,
        },
    }


def _scrapes(scraper: Scraper, count: int) -> list[float]:
    taken = []
    for _ in range(count):
        taken.append(scraper.scrape())
        time.sleep(0.1)
    return taken


def _span(seconds: float, pids: tuple[int, int], scrape: Callable[[], float] | None) -> Span:
    before = [cpu_seconds(pid) for pid in pids]
    begin = time.monotonic()
    latencies: list[float] = []
    while (left := begin + seconds - time.monotonic()) > 0:
        if scrape is not None:
            latencies.append(scrape())
            left = begin + min(len(latencies) * INTERVAL, seconds) - time.monotonic()
        time.sleep(max(0.0, left))
    after = [cpu_seconds(pid) for pid in pids]
    vm, program = (b - a for a, b in zip(before, after, strict=True))
    return Span(time.monotonic() - begin, vm, program, latencies)


def _share(span: Span, part: str) -> float:
    """Share of one core."""
    return float(getattr(span, part) / span.seconds)


def _latency(taken: list[float]) -> dict[str, float]:
    ordered = sorted(taken)
    return {
        "median": statistics.median(ordered),
        "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
        "max": ordered[-1],
    }


def _memory_available() -> int:
    for line in Path("/proc/meminfo").read_text("ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/meminfo has no MemAvailable")


def report(results: dict[str, Any], console: Console) -> None:
    """Prints the tables."""
    machine = results["machine"]
    title = (
        f"{results['sessions']:,} sessions, ejabberd {machine['ejabberd']}, OTP {machine['otp']}, "
        f"{machine['cores']} cores; a scrape of {results['bytes']:,} bytes each second"
    )
    table = Table(title=title, box=box.SIMPLE)
    for heading in ("share of one core", "VM", "port program", "both"):
        table.add_column(heading, justify="left" if heading.startswith("share") else "right")
    for name, shares in (
        ("without scrapes", results["idle_shares"]),
        ("the scrapes", results["shares"]),
    ):
        both = (shares["vm"], shares["program"], sum(shares.values()))
        table.add_row(name, *(f"{100 * share:.2f}%" for share in both))
    console.print(table)
    latency = Table(box=box.SIMPLE)
    for heading in ("a scrape takes", "median", "p99", "longest"):
        latency.add_column(heading, justify="left" if heading.startswith("a") else "right")
    for name, values in (
        ("without sessions", results["latency"]["empty"]),
        ("with them", results["latency"]["full"]),
    ):
        latency.add_row(name, *(f"{1000 * value:.1f} ms" for value in values.values()))
    console.print(latency)
    for name, met in results["targets"].items():
        console.print(f"target {name}: {'met' if met else 'MISSED'}")


if __name__ == "__main__":
    sys.exit(main())
