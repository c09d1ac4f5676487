"""Runs the tests in a container of each Debian suite, and writes what passed into README.md.

    python3 -m tests.matrix [--suites "bookworm trixie sid"] [--json] [PYTEST-ARGUMENT ...]

Needs Docker and Python 3.11, nothing of the project. With arguments for pytest only what they
choose runs, and nothing is written. Output, JUnit XML and the image's log of each suite are in
.cache/matrix/SUITE. The exit status is 1 when a test of any suite failed, 2 when a suite could not
be run.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import signal
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from tests.matrix.containers import ROOT, MatrixError, build, run_tests, say, versions
from tests.matrix.results import (
    SUITES,
    Result,
    counts,
    failed_tests,
    load,
    save,
    with_table,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Output, JUnit XML and logs.
KEPT: Final = ROOT / ".cache/matrix"

RESULTS: Final = ROOT / "docs/supported.json"
README: Final = ROOT / "README.md"

#: All that depends on ejabberd, Erlang or Python: not what looks at the checkout or needs Docker.
EVERYTHING: Final = (
    *(f"tests/{part}" for part in ("bridge", "erlang_port", "metrics", "mod_megaphone", "e2e")),
    *("--numprocesses=2", "--dist=loadfile"),
)


def main() -> int:
    """Runs the suites one after the other."""
    parser = argparse.ArgumentParser(
        prog="make matrix", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--suites", default="", help=f"some of {' '.join(SUITES)}; default: all")
    parser.add_argument("--json", action="store_true", help="the results on stdout")
    arguments, chosen = parser.parse_known_args()
    suites = arguments.suites.split() or SUITES
    if unknown := set(suites) - set(SUITES):
        parser.error(f"no such suite: {' '.join(sorted(unknown))}")

    # An end by SIGTERM is one, too: no container stays.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    results: dict[str, Result] = {}
    problems = []
    try:
        with alone():
            for suite in suites:
                try:
                    results[suite] = run(suite, tuple(chosen) or EVERYTHING)
                except MatrixError as error:
                    say(str(error))
                    problems.append(suite)
    except BlockingIOError:
        say("it runs in this checkout already")
        return 2
    if arguments.json:
        json.dump({suite: asdict(found) for suite, found in results.items()}, sys.stdout, indent=2)
        sys.stdout.write("\n")
    if results and not chosen:
        write(results)
    if problems:
        return 2
    return 0 if all(found.supported for found in results.values()) else 1


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One run in a checkout at a time.

    Raises:
        BlockingIOError: There is one.
    """
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def run(suite: str, arguments: tuple[str, ...]) -> Result:
    """One suite, from its image to its result.

    Raises:
        MatrixError: It could not be run, or was ended.
    """
    directory = KEPT / suite
    directory.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    say(f"{suite}: its image")
    image = build(suite, directory / "build.log")
    told = versions(image)
    say(f"{suite}: " + ", ".join(f"{name} {version}" for name, version in told.items()))
    status = run_tests(suite, image, arguments, directory)
    junit = directory / "junit.xml"
    if status not in {0, 1} or not junit.is_file():
        raise MatrixError(f"{suite}: pytest ended with status {status}: {directory}/output.txt")
    ended = counts(junit.read_text())
    again = once_more(suite, image, junit.read_text(), directory / "again") if ended.failed else 0
    found = Result(
        **told,
        passed=ended.passed + again,
        failed=0 if again else ended.failed,
        skipped=ended.skipped,
        again=again,
    )
    say(
        f"{suite}: {found.passed} passed, {found.failed} failed, {found.skipped} skipped in "
        f"{(time.monotonic() - started) / 60:.0f} minutes: {directory}"
    )
    return found


def once_more(suite: str, image: str, junit: str, directory: Path) -> int:
    """Runs the files of what failed again, for a busy machine fails tests; how many pass now.

    None do unless all of them do: whatever fails twice is a failure.
    """
    failed = failed_tests(junit)
    say(f"{suite}: once more: {' '.join(sorted(failed))}")
    directory.mkdir(exist_ok=True)
    passes = run_tests(suite, image, tuple(sorted(failed)), directory) == 0
    return sum(map(len, failed.values())) if passes else 0


def write(results: dict[str, Result]) -> None:
    """Brings the results' file and the README's table up to date."""
    merged = {**load(RESULTS), **results}
    save(RESULTS, merged)
    README.write_text(with_table(README.read_text(), merged))


if __name__ == "__main__":
    sys.exit(main())
