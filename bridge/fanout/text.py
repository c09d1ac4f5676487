"""What rendering a batch gives, and the errors it knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

#: Why a recipient gets nothing: the text holds what XML 1.0 forbids, or the template raised.
DropReason = Literal["invalid", "template"]

#: Characters of an error's text; whatever a template put into it, an operator's line stays a line.
MAX_ERROR_TEXT: Final = 300


class TemplateError(ValueError):
    """A template that cannot be used; the text is for the operator and says why."""


class TextTooLargeError(ValueError):
    """The texts of a batch would be longer than a frame may be."""


@dataclass(slots=True)
class Rendered:
    """The texts of a batch for one template.

    Attributes:
        texts: a column; the text of a dropped recipient is empty.
        dropped: the reasons by the recipient's index.
    """

    texts: bytes
    dropped: dict[int, DropReason] = field(default_factory=dict)


def one_line(text: str) -> str:
    """Make one printable line of bounded length."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= MAX_ERROR_TEXT else line[: MAX_ERROR_TEXT - 3] + "..."
