"""The Erlang end as files: what this installation brings, what a node has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bridge.attach.configuration import MODULE
from bridge.attach.module_options import EMPTY
from bridge.cli.errors import CommandError, ExitStatus

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: The one file of options; ext_mod expects exactly one in conf/.
OPTIONS_FILE: Final = f"conf/{MODULE}.yml"

#: What belongs to a contributed package; anything else beside it stays at home.
_PARTS: Final = frozenset({"src", "include", "priv"})


@dataclass(frozen=True, slots=True)
class Package:
    """Sources by their path inside the package, and the text of the options file."""

    files: Mapping[str, bytes]
    options: str


def load(root: Path) -> Package:
    """Reads a package into memory.

    Raises:
        CommandError: FAILURE when it is no package of mod_megaphone, PERMISSION when it may not be
            read.
    """
    try:
        files = {
            str(path.relative_to(root)): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file() and _belongs(path.relative_to(root))
        }
        options = root / OPTIONS_FILE
        text = options.read_text(encoding="utf-8") if options.is_file() else EMPTY
    except PermissionError as error:
        raise CommandError(
            f"{error.filename} may not be read", "mend its permissions", ExitStatus.PERMISSION
        ) from error
    if f"{MODULE}.spec" not in files:
        raise CommandError(
            f"{root} holds no {MODULE}.spec",
            "install Megaphone again: its Erlang end is missing",
            ExitStatus.FAILURE,
        )
    return Package(files, text)


def _belongs(path: Path) -> bool:
    if any(part.startswith(".") for part in path.parts):
        return False
    return path.parts[0] in _PARTS or path.name in {f"{MODULE}.spec", "README.md", "COPYING"}
