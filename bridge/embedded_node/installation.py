"""Where this machine's ejabberd and its Erlang are.

Debian's ejabberdctl refuses everybody but root and ejabberd's user, and gives root's work to that
user, so a private node cannot be run through it. It is read instead: its variables ERL and ERL_LIBS
say which Erlang runs ejabberd and where the libraries are, in packages and in releases alike.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bridge.cli.errors import ExitStatus
from bridge.embedded_node.errors import EmbeddedNodeError

#: Where ejabberdctl is looked for when PATH has no sbin.
USUAL_PLACES: Final = ("/usr/sbin/ejabberdctl", "/usr/local/sbin/ejabberdctl")

_HOW_TO_INSTALL: Final = (
    "install ejabberd (Debian: apt-get install ejabberd), or name its ejabberdctl"
)

_ASSIGNMENT: Final = re.compile(
    r"""^\s*(?:export\s+)?([A-Z_]+)=(?:"([^"`]*)"|'([^']*)'|(\S*))\s*$""", re.MULTILINE
)
_VARIABLE: Final = re.compile(r"\$\{?([A-Z_]+)\}?")


@dataclass(frozen=True, slots=True)
class Installation:
    """An installed ejabberd."""

    erl: Path
    erl_call: Path
    #: ERL_LIBS: directories whose subdirectories are Erlang applications.
    libraries: str
    #: ERL_FLAGS that ejabberd's own script sets.
    flags: str


def find(ejabberdctl: str | None = None) -> Installation:
    """Finds ejabberd through its ejabberdctl.

    Args:
        ejabberdctl: Its path; looked for in PATH and in the usual places when None.

    Raises:
        EmbeddedNodeError: EJABBERDCTL_NOT_FOUND, or FAILURE when it is of an unknown kind or
            Erlang's erl_call is missing.
    """
    places = (ejabberdctl,) if ejabberdctl else ("ejabberdctl", *USUAL_PLACES)
    found = next((path for place in places if (path := shutil.which(place))), None)
    if found is None:
        raise EmbeddedNodeError(
            f"{ejabberdctl or 'ejabberdctl'} is not here",
            _HOW_TO_INSTALL,
            ExitStatus.EJABBERDCTL_NOT_FOUND,
        )
    script = Path(found).resolve()
    text = script.read_text(encoding="utf-8", errors="replace")
    variables = _variables(text, script)
    erl, libraries = variables.get("ERL", ""), variables.get("ERL_LIBS", "")
    if not erl or not libraries or "$" in erl + libraries or shutil.which(erl) is None:
        raise EmbeddedNodeError(
            f"{script} does not say which Erlang runs ejabberd",
            "name the ejabberdctl of a package or of a release",
        )
    return Installation(
        erl=Path(erl),
        erl_call=_erl_call(Path(erl)),
        libraries=libraries,
        flags="-enable-feature maybe_expr" if "-enable-feature maybe_expr" in text else "",
    )


def _variables(text: str, script: Path) -> dict[str, str]:
    """The script's plain assignments, in order, each with the ones before it filled in."""
    known = {"SCRIPT_DIR": str(script.parent)}
    for name, double, single, bare in _ASSIGNMENT.findall(text):
        if name in {"SCRIPT_DIR", "SCRIPT"}:
            continue
        value = single or _VARIABLE.sub(lambda m: known.get(m[1], m[0]), double or bare)
        known.setdefault(name, value)
    return known


def _erl_call(erl: Path) -> Path:
    """erl_call beside erl, in Erlang's library directory, or in PATH."""
    root = erl.resolve().parent.parent
    candidates = [
        erl.parent / "erl_call",
        erl.resolve().parent / "erl_call",
        *sorted(root.glob("lib/erl_interface-*/bin/erl_call"), reverse=True),
        *sorted(root.parent.glob("lib/erl_interface-*/bin/erl_call"), reverse=True),
    ]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if (in_path := shutil.which("erl_call")) is not None:
        return Path(in_path)
    raise EmbeddedNodeError(
        f"erl_call is missing beside {erl}", "install it (Debian: apt-get install erlang-base)"
    )
