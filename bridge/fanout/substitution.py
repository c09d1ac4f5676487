"""The fast path: a template that is literal text and plain names, done on whole columns.

Nothing is done once for each recipient in Python's own code: one name costs a replacement over the
column, several cost a split and a join.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jinja2 import nodes

from bridge.fanout import columns as column
from bridge.fanout.text import Rendered, TextTooLargeError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

#: A literal is bytes, the name of a column is a string.
Part = bytes | str

_AT: Final = b"@"


def substitution_parts(tree: nodes.Template, names: Collection[str]) -> list[Part] | None:
    """Take a syntax tree apart, if it is literal text and known names and nothing else.

    Returns:
        Literals and names in their order, or None for every other template.
    """
    parts: list[Part] = []
    for statement in tree.body:
        if not isinstance(statement, nodes.Output):
            return None
        for node in statement.nodes:
            if isinstance(node, nodes.TemplateData):
                parts.append(node.data.encode())
            elif isinstance(node, nodes.Name) and node.name in names:
                parts.append(node.name)
            else:
                return None
    return parts


class Substitution:
    """A template of literals and names."""

    def __init__(self, parts: Sequence[Part], names: Mapping[str, tuple[str, ...]]) -> None:
        self._parts = _on_columns(parts, names)
        self.columns = tuple(sorted({part for part in self._parts if isinstance(part, str)}))

    def render(self, values: Mapping[str, bytes], count: int, limit: int) -> Rendered:
        """See `bridge.fanout.template.Template.render`."""
        parts = _with_constants(self._parts, values, count)
        size = sum(
            len(values[part]) - (count - 1) if isinstance(part, str) else len(part) * count
            for part in parts
        )
        if size + count - 1 > limit:
            raise TextTooLargeError
        texts = _render(parts, values, count)
        bad: set[int] = set()
        for name in self.columns:
            if not column.is_clean(values[name]):
                bad.update(column.unsendable(column.split(values[name], count)))
        if not bad:
            return Rendered(texts)
        return Rendered(column.blank(texts, count, bad), dict.fromkeys(sorted(bad), "invalid"))


def _on_columns(parts: Sequence[Part], names: Mapping[str, tuple[str, ...]]) -> list[Part]:
    """Replace names by columns: a bare JID is user, an at sign, server."""
    flat: list[Part] = []
    for part in parts:
        if isinstance(part, bytes):
            flat.append(part)
            continue
        for index, name in enumerate(names[part]):
            flat.extend([_AT, name] if index else [name])
    return _merged(flat)


def _merged(parts: Sequence[Part]) -> list[Part]:
    """Join neighbouring literals."""
    merged: list[Part] = []
    for part in parts:
        if isinstance(part, bytes) and merged and isinstance(merged[-1], bytes):
            merged[-1] += part
        else:
            merged.append(part)
    return merged


def _with_constants(parts: Sequence[Part], values: Mapping[str, bytes], count: int) -> list[Part]:
    """Make literals of the columns in which all values are equal, as `server` mostly is."""
    constants: dict[str, bytes] = {}
    for name in {part for part in parts if isinstance(part, str)}:
        first, separator, _ = values[name].partition(column.SEPARATOR)
        if not separator or column.join([first] * count) == values[name]:
            constants[name] = first
    if not constants:
        return list(parts)
    return _merged([constants.get(part, part) if isinstance(part, str) else part for part in parts])


def _render(parts: Sequence[Part], values: Mapping[str, bytes], count: int) -> bytes:
    prefix = b""
    pieces: list[tuple[str, bytes]] = []
    for part in parts:
        if isinstance(part, str):
            pieces.append((part, b""))
        elif pieces:
            pieces[-1] = (pieces[-1][0], part)
        else:
            prefix = part
    if not pieces:
        return column.join([prefix] * count)
    if len(pieces) == 1:
        name, suffix = pieces[0]
        between = suffix + column.SEPARATOR + prefix
        return prefix + values[name].replace(column.SEPARATOR, between) + suffix
    # Each name takes the literal behind it along; one more slot a recipient, what parts it from the
    # next one. So one join over all the slots is the column.
    slots = len(pieces) + 1
    woven = [column.SEPARATOR + prefix] * (slots * count)
    for index, (name, suffix) in enumerate(pieces):
        between = suffix + column.SEPARATOR
        woven[index::slots] = (values[name].replace(column.SEPARATOR, between) + suffix).split(
            column.SEPARATOR
        )
    woven.pop()
    return prefix + b"".join(woven)
