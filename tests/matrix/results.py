"""What a suite's run gave: its counts, docs/supported.json and the README's table made from it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Debian's suites, the oldest ejabberd first.
SUITES: Final = ("bookworm", "trixie", "sid")

#: The README's part that is written from the results.
BEGIN: Final = "<!-- From docs/supported.json, by `make matrix`. -->\n"
END: Final = "<!-- End of what `make matrix` writes. -->\n"


@dataclass(frozen=True, slots=True)
class Counts:
    """How many tests ended in which way; an error counts as a failure."""

    passed: int
    failed: int
    skipped: int


@dataclass(frozen=True, slots=True)
class Result:
    """One suite: the versions that its container told, and how the tests ended there."""

    ejabberd: str
    otp: str
    python: str
    passed: int
    failed: int
    skipped: int
    #: Of those that passed: what failed first, and passed when its files were run once more.
    again: int = 0

    @property
    def supported(self) -> bool:
        """Whether everything that ran passed, and something did."""
        return self.failed == 0 and self.passed > 0


def counts(junit: str) -> Counts:
    """Reads pytest's JUnit XML.

    Raises:
        ValueError: It is no such document.
    """
    try:
        suites = list(ET.fromstring(junit).iter("testsuite"))
    except ET.ParseError as error:
        raise ValueError(f"not JUnit XML: {error}") from error
    if not suites:
        raise ValueError("not JUnit XML: it has no testsuite")

    def total(*names: str) -> int:
        return sum(int(suite.get(name, "0")) for suite in suites for name in names)

    failed, skipped = total("failures", "errors"), total("skipped")
    # A test that passes and whose fixture then fails is one test with one error.
    return Counts(max(0, total("tests") - failed - skipped), failed, skipped)


def failed_tests(junit: str) -> dict[str, set[str]]:
    """The names of the tests that failed, by their file as pytest takes it."""
    found: dict[str, set[str]] = {}
    for case in ET.fromstring(junit).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            file = f"{case.get('classname', '').replace('.', '/')}.py"
            found.setdefault(file, set()).add(case.get("name", ""))
    return found


def load(path: Path) -> dict[str, Result]:
    """The results by suite; none where there is no file yet."""
    if not path.exists():
        return {}
    return {suite: Result(**found) for suite, found in json.loads(path.read_text()).items()}


def save(path: Path, results: Mapping[str, Result]) -> None:
    """Writes the results, suites in their order."""
    ordered = {suite: asdict(results[suite]) for suite in SUITES if suite in results}
    path.write_text(json.dumps(ordered, indent=2) + "\n")


def table(results: Mapping[str, Result]) -> str:
    """The README's table: a line for each suite in which everything passed."""
    lines = [
        "| Debian | ejabberd | Erlang/OTP | Python | tests |",
        "|---|---|---|---|---|",
    ]
    for suite in SUITES:
        if suite in results and (found := results[suite]).supported:
            # Without what Debian adds, and which fix of a Python it is.
            ejabberd = found.ejabberd.partition("-")[0]
            python = ".".join(found.python.split(".")[:2])
            again = f", {found.again} of them at a second run" * bool(found.again)
            skipped = f", {found.skipped} skipped" * bool(found.skipped)
            tests = f"{found.passed:,} passed{again}{skipped}"
            lines.append(f"| {suite} | {ejabberd} | {found.otp} | {python} | {tests} |")
    return "\n".join(lines) + "\n"


def with_table(readme: str, results: Mapping[str, Result]) -> str:
    """The README with the table of these results.

    Raises:
        ValueError: It has no place for it.
    """
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if len(pattern.findall(readme)) != 1:
        raise ValueError("README.md has no place for the table of supported versions, or several")
    return pattern.sub(lambda _: f"{BEGIN}\n{table(results)}\n{END}", readme)
