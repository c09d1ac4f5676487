"""The options of mod_megaphone in its contributed file, changed without losing a comment."""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING, Any, Final

import yaml

from bridge.attach.configuration import MODULE
from bridge.cli.errors import CommandError, ExitStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

#: What attach writes when the package brings no file of its own.
EMPTY: Final = f"modules:\n  {MODULE}: {{}}\n"


def read(text: str) -> dict[str, Any]:
    """Returns the module's options.

    Raises:
        CommandError: CONFIGURATION when the text is not a mapping of `modules` with this module.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _unusable(str(error).partition("\n")[0]) from error
    modules = document.get("modules") if isinstance(document, dict) else None
    if not isinstance(modules, dict) or MODULE not in modules:
        raise _unusable(f"it has no modules: {MODULE}:")
    options = modules[MODULE]
    if options is None or options == []:
        return {}
    if not isinstance(options, dict):
        raise _unusable(f"the options of {MODULE} are not a mapping")
    return options


def change(text: str, changes: Mapping[str, Any]) -> str:
    """Returns the text with some options set, everything else as it was.

    Args:
        text: The contributed file.
        changes: Option names and values; values are what JSON can hold.

    Raises:
        CommandError: CONFIGURATION, as `read`.
    """
    wanted = {**read(text), **changes}
    changed = text
    with contextlib.suppress(yaml.YAMLError):
        for name, value in changes.items():
            changed = _set(changed, name, value)
    with contextlib.suppress(CommandError):
        if read(changed) == wanted:
            return changed
    # A layout that cannot be edited in place is written anew.
    document = yaml.safe_load(text)
    document["modules"][MODULE] = wanted
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def refuse_unknown(options: Iterable[str], package: Path) -> None:
    """Refuses what mod_megaphone has no option for, while nothing is changed yet.

    Args:
        options: Their names.
        package: The module's directory, with its sources.

    Raises:
        CommandError: CONFIGURATION, with the options that there are.
    """
    source = (package / f"src/{MODULE}.erl").read_text(encoding="utf-8")
    known = sorted(set(re.findall(r"^mod_opt_type\((\w+)\)", source, re.MULTILINE)))
    for name in options:
        if name not in known:
            raise CommandError(
                f"--option {name}: mod_megaphone has no such option",
                f"use one of {', '.join(known)}",
                ExitStatus.CONFIGURATION,
            )


def parse_assignment(text: str) -> tuple[str, Any]:
    """Reads KEY=VALUE, the value as YAML.

    Raises:
        CommandError: USAGE.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise CommandError(
            f"--option {text}: not KEY=VALUE", "write --option batch_size=500", ExitStatus.USAGE
        )
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise CommandError(
            f"--option {text}: the value is not YAML", "quote it", ExitStatus.USAGE
        ) from error


def _set(text: str, name: str, value: object) -> str:
    encoded = _encode(value)
    options = _options_node(text)
    if options is None:
        return text
    for key, old in options.value:
        if key.value == name:
            start, end = old.start_mark.index, _end(old)
            end = start + len(text[start:end].rstrip())
            return f"{text[:start]}{encoded}{text[end:]}"
    start = options.start_mark.index
    if options.flow_style:
        comma = ", " if options.value else ""
        return f"{text[: start + 1]}{name}: {encoded}{comma}{text[start + 1 :]}"
    indent = " " * options.start_mark.column
    return f"{text[:start]}{name}: {encoded}\n{indent}{text[start:]}"


def _end(node: yaml.Node) -> int:
    """Where a value ends: a block's own mark lies behind the comments that follow it."""
    while isinstance(node, yaml.CollectionNode) and node.value and not node.flow_style:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return int(node.end_mark.index)


def _encode(value: object) -> str:
    """A value as YAML on one line, strings quoted so that no reader takes them for another type."""
    match value:
        case str():
            return str(yaml.safe_dump(value, default_style='"', width=1 << 30)).strip()
        case list():
            return f"[{', '.join(map(_encode, value))}]"
        case dict():
            pairs = (f"{_encode(str(name))}: {_encode(inner)}" for name, inner in value.items())
            return f"{{{', '.join(pairs)}}}"
        case _:
            return json.dumps(value, default=str)


def _options_node(text: str) -> yaml.MappingNode | None:
    document = yaml.compose(text, yaml.SafeLoader)
    for step in ("modules", MODULE):
        if not isinstance(document, yaml.MappingNode):
            return None
        document = next(
            (value for key, value in document.value if key.value == step),
            None,
        )
    return document if isinstance(document, yaml.MappingNode) else None


def _unusable(why: str) -> CommandError:
    return CommandError(
        f"the contributed file of {MODULE} is of no use: {why}",
        f"make it `modules:`, then `{MODULE}:` with its options below, or remove the file",
        ExitStatus.CONFIGURATION,
    )
