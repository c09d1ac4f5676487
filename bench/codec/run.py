"""Encoding and decoding beside erlang_py, erlpack and erlport.

    python bench/codec/run.py [--rounds 15] [--json FILE]

Each round measures every codec's processor time once on every row, in turn; a row's number is the
median of the rounds, its ratio the median of the rounds' ratios to erlang_py.
`make bench` brings those that install (bench/requirements-peers.txt); ERLPORT_HOME names a checkout
of erlport.
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

if __package__ in {None, ""}:  # Run as a script: the checkout is not in sys.path.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.codec import peers
from bench.outcome import conclude
from erlang_port.etf import Atom, Term, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.codec.peers import Codec

#: What is to be reached on every row: times erlang_py.
TARGET_RATIO: Final = 3.0

RESULTS: Final = Path(__file__).resolve().parents[1] / "results/codec.json"

#: Seconds that one measure should take.
_MEASURE: Final = 0.02


def stanza(number: int = 0) -> Term:
    """A chat message as ejabberd's fast_xml has it."""
    body: Term = (Atom("xmlel"), b"body", [], [(Atom("xmlcdata"), b"Hello, how are you?")])
    attributes = [
        (b"to", b"juliet%d@example.org" % number),
        (b"from", b"romeo@example.org/orchard"),
        (b"type", b"chat"),
        (b"id", b"a%d" % number),
    ]
    return (Atom("xmlel"), b"message", attributes, [body])


def latin1(data: bytes) -> bytes:
    """A stanza's bytes as OTP 25 and older write them: atoms in Latin-1 (ATOM_EXT)."""
    for name in (b"xmlel", b"xmlcdata"):
        data = data.replace(b"w" + bytes((len(name),)) + name, b"d\0" + bytes((len(name),)) + name)
    return data


ROWS: Final[dict[str, Term]] = {
    "one stanza": stanza(),
    "1,000 stanzas": [stanza(n) for n in range(1000)],
    "1,000 JIDs": [(b"user%d" % n, b"example.org", b"phone") for n in range(1000)],
}

#: What is decoded only: the bytes, by row.
OLD_ROWS: Final[dict[str, bytes]] = {
    f"{row}, OTP 25": latin1(encode(ROWS[row])) for row in ("one stanza", "1,000 stanzas")
}


def main(arguments: list[str] | None = None) -> int:
    """Runs it; 1 when the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15, help="measures of each number")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the numbers go")
    chosen = parser.parse_args(arguments)
    if chosen.rounds < 1:
        parser.error("--rounds must be positive")
    codecs = [peers.megaphone(), peers.erlang_py(), peers.erlpack(), peers.erlport()]
    console = Console(stderr=True)
    if codecs[1].missing:
        console.print(f"erlang_py is needed to compare with: {codecs[1].missing}", style="red")
        return 2
    results = measure(codecs, chosen.rounds, console)
    reached = results["target_reached"]
    return conclude(results, reached, chosen.json, report, console)


def _jobs(codecs: list[Codec]) -> dict[tuple[str, str], dict[str, Callable[[], object]]]:
    """What is measured: by row and way, the work of each codec that can do it."""
    work: list[tuple[tuple[str, str], str, Callable[[], object]]] = []
    for codec in codecs:
        if codec.missing or codec.encode is None or codec.decode is None:
            continue
        for row, term in ROWS.items():
            work.append(((row, "encode"), codec.name, partial(codec.encode, codec.term(term))))
            work.append(((row, "decode"), codec.name, partial(codec.decode, encode(term))))
        for row, data in OLD_ROWS.items():
            work.append(((row, "decode"), codec.name, partial(codec.decode, data)))
    jobs: dict[tuple[str, str], dict[str, Callable[[], object]]] = {key: {} for key, _, _ in work}
    for key, name, job in work:
        try:
            job()
        # What a peer cannot do is left out of its column, whatever it raises.
        except Exception:
            if name == codecs[0].name:
                raise
        else:
            jobs[key][name] = job
    return jobs


def measure(codecs: list[Codec], rounds: int, console: Console) -> dict[str, Any]:
    """Takes all measures, in seconds of processor time: others may be at work here as well."""
    jobs = _jobs(codecs)
    times: dict[tuple[str, str], dict[str, list[float]]] = {
        key: {name: [] for name in found} for key, found in jobs.items()
    }
    repeats = {(key, n): _repeats(job) for key, found in jobs.items() for n, job in found.items()}
    for _ in track(range(rounds), "rounds", console=console):
        for key, found in jobs.items():
            for name, job in found.items():
                times[key][name].append(_seconds(job, repeats[key, name]))
    mine, base = codecs[0].name, codecs[1].name
    rows: list[dict[str, Any]] = [
        {
            "row": row,
            "way": way,
            "seconds": {name: statistics.median(taken) for name, taken in found.items()},
            "ratio": statistics.median(
                theirs / ours for theirs, ours in zip(found[base], found[mine], strict=True)
            ),
        }
        for (row, way), found in times.items()
    ]
    return {
        "python": platform.python_version(),
        "rounds": rounds,
        "codecs": [codec.name for codec in codecs],
        "missing": {codec.name: codec.missing for codec in codecs if codec.missing},
        "rows": rows,
        "target_ratio": TARGET_RATIO,
        "target_reached": all(row["ratio"] >= TARGET_RATIO for row in rows),
    }


def _repeats(job: Callable[[], object]) -> int:
    repeats = 1
    while (taken := _seconds(job, repeats) * repeats) < _MEASURE / 2:
        repeats = max(repeats * 2, int(repeats * _MEASURE / max(taken, 1e-6)) // 2)
    return repeats


def _seconds(job: Callable[[], object], repeats: int) -> float:
    gc.collect()
    begin = time.process_time()
    for _ in range(repeats):
        job()
    return (time.process_time() - begin) / repeats


def report(results: dict[str, Any], console: Console) -> None:
    """Prints the table: microseconds, and how many times as long erlang_py takes."""
    table = Table(
        title="processor microseconds a term (median)", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("term", no_wrap=True)
    table.add_column("way", no_wrap=True)
    names = [name for name in results["codecs"] if name not in results["missing"]]
    for name in names:
        table.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
    table.add_column("ratio", justify="right", no_wrap=True)
    for row in results["rows"]:
        seconds = row["seconds"]
        micro = [f"{seconds[name] * 1e6:,.1f}" if name in seconds else "-" for name in names]
        table.add_row(row["row"], row["way"], *micro, f"{row['ratio']:.2f}")
    console.print(table)
    for name, reason in results["missing"].items():
        console.print(f"{name}: not measured: {reason}", highlight=False)
    least = min(row["ratio"] for row in results["rows"])
    verdict = "reached" if results["target_reached"] else "MISSED"
    console.print(
        f"target, {TARGET_RATIO:g} times erlang_py on every row: {verdict} (least {least:.2f})",
        highlight=False,
    )


if __name__ == "__main__":
    sys.exit(main())
