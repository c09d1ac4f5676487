"""A batch: its body taken apart, every template run over it, the answer put together."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from bridge.fanout import columns as column
from bridge.fanout.limits import MAX_TEMPLATES
from bridge.fanout.template import compile_template
from bridge.fanout.text import TemplateError, TextTooLargeError

if TYPE_CHECKING:
    from bridge.fanout.template import Template
    from bridge.fanout.text import DropReason


#: Compiled templates that a worker keeps, least recently used ones first to go.
_KEPT: Final = 64


class BatchError(ValueError):
    """The body of a batch is not what docs/protocol.md says; the text holds nothing out of it."""


@lru_cache(maxsize=_KEPT)
def _compiled(source: bytes) -> Template:
    return compile_template(source)


def format_batch(body: object, limit: int) -> tuple[list[bytes], list[tuple[int, DropReason]]]:
    """Format a batch.

    Args:
        body: the decoded body of a `batch` message: templates, count, columns.
        limit: bytes that the texts may have together.

    Returns:
        A column a template, and the dropped recipients by ascending index, each with the reason of
        the first template that failed for it. A dropped recipient's texts are empty in all columns.

    Raises:
        BatchError: the body is malformed.
        TextTooLargeError: the texts would be longer than `limit`.
        MemoryError: a template wants more than this process may have.
    """
    sources, count, columns = _taken_apart(body)
    texts: list[bytes] = []
    dropped: dict[int, DropReason] = {}
    left = limit
    for number, source in enumerate(sources):
        try:
            template = _compiled(source)
        except TemplateError as error:
            raise BatchError(f"template {number}: {error}") from None
        for name in template.columns:
            _check_column(columns, name, count)
        if left < 0:
            raise TextTooLargeError
        rendered = template.render(columns, count, left)
        left -= len(rendered.texts)
        dropped = rendered.dropped | dropped
        texts.append(rendered.texts)
    if dropped:
        texts = [column.blank(text, count, dropped) for text in texts]
    return texts, sorted(dropped.items())


def _check_column(columns: dict[str, bytes], name: str, count: int) -> None:
    if name not in columns:
        raise BatchError(f"the column {name} is missing")
    try:
        column.check_count(columns[name], count)
    except column.ColumnError as error:
        raise BatchError(f"{name}: {error}") from None


def _taken_apart(body: object) -> tuple[list[bytes], int, dict[str, bytes]]:
    match body:
        case ([*items], int(count), dict(columns)) if 0 < len(items) <= MAX_TEMPLATES and count > 0:
            sources = [item for item in items if isinstance(item, bytes)]
            named = {
                name.decode(errors="replace"): values
                for name, values in columns.items()
                if isinstance(name, bytes) and isinstance(values, bytes)
            }
            if len(sources) == len(items) and len(named) == len(columns):
                return sources, count, named
    raise BatchError("the body is not {Templates, Count, Columns}")
