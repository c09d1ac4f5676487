"""Checking a template before a broadcast is accepted: it is compiled, and run for samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridge.fanout import template as templates
from bridge.fanout.batch_loop import BatchLoop
from bridge.fanout.text import TemplateError, TextTooLargeError, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.fanout.template import Template

#: Bytes of the longest part of a JID (RFC 7622, section 3.1).
_LONGEST: Final = 1023

#: An ordinary recipient, the shortest and the longest, as values of columns.
SAMPLES: Final[tuple[Mapping[str, bytes], ...]] = (
    {"user": b"juliet", "server": b"example.org", "resource": b"balcony"},
    {"user": b"u", "server": b"s", "resource": b"r"},
    {
        "user": b"u" * _LONGEST,
        "server": b".".join([b"s" * 60] * 16),
        "resource": "\N{WAVING HAND SIGN}".encode() * (_LONGEST // 4),
    },
)


def check(source: bytes, limit: int) -> Template:
    """Compile a template and run it for samples; one that fails for all of them is refused.

    Args:
        source: the template, as UTF-8.
        limit: bytes that one text may have.

    Raises:
        TemplateError: the template cannot be used.
        MemoryError: it wants more than this process may have.
    """
    template = templates.compile_template(source)
    reasons: list[str] = []
    for sample in SAMPLES:
        reason = _failure(template, sample, limit)
        if reason is None:
            return template
        reasons.append(reason)
    raise TemplateError(one_line(reasons[0]))


def _failure(template: Template, sample: Mapping[str, bytes], limit: int) -> str | None:
    try:
        rendered = template.render(sample, 1, limit)
    except TextTooLargeError:
        return f"its text has more than {limit} bytes"
    match rendered.dropped.get(0):
        case None:
            return None
        case "invalid":
            return "its text holds a character that XML 1.0 forbids"
        case "template":
            return template.error(sample) if isinstance(template, BatchLoop) else "it fails"
