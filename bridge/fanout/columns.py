"""Columns: the values of a batch's recipients as one binary, joined by NUL.

XML 1.0 forbids NUL in text, so it can never be part of a value that may be sent; what makes it safe
is that everything joined here is checked first, and that the node counts before it routes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: What stands between two values of a column.
SEPARATOR = b"\0"

#: The control characters that XML 1.0 (section 2.2, production Char) forbids, NUL apart: of those
#: below U+0020 it allows tab, line feed and carriage return only.
FORBIDDEN_CONTROLS = bytes([*range(0x01, 0x09), 0x0B, 0x0C, *range(0x0E, 0x20)])

#: U+FFFE and U+FFFF in UTF-8, forbidden by the same production. Surrogates need no search: UTF-8
#: that holds one is not valid and is refused as such.
FORBIDDEN_NONCHARACTERS = ("\ufffe".encode(), "\uffff".encode())


class ColumnError(ValueError):
    """A column does not hold the number of values that its batch says."""


def is_clean(data: bytes) -> bool:
    """Tell whether a value, or a whole column of them, is UTF-8 text that XML 1.0 allows.

    NUL passes, as the separator of columns: what is checked value by value must be searched for it
    first, see `is_sendable`.

    Args:
        data: a value, or values joined by NUL.
    """
    if len(data.translate(None, FORBIDDEN_CONTROLS)) != len(data):
        return False
    if data.isascii():
        return True
    if any(character in data for character in FORBIDDEN_NONCHARACTERS):
        return False
    return is_utf8(data)


def is_sendable(value: bytes) -> bool:
    """Tell whether one value may stand in a stanza: UTF-8, nothing that XML 1.0 forbids, no NUL."""
    return SEPARATOR not in value and is_clean(value)


def is_utf8(data: bytes) -> bool:
    """Tell whether the bytes are valid UTF-8 (RFC 3629: no surrogates, no overlong forms)."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def check_count(column: bytes, count: int) -> None:
    """Make sure that a column holds as many values as its batch has recipients.

    Raises:
        ColumnError: it holds more or fewer.
    """
    found = column.count(SEPARATOR) + 1
    if found != count:
        raise ColumnError(f"a column of {count} values holds {found}")


def split(column: bytes, count: int) -> list[bytes]:
    """Take a column apart.

    Args:
        column: the values, joined by NUL.
        count: how many there must be, at least 1.

    Raises:
        ColumnError: the column holds more or fewer.
    """
    values = column.split(SEPARATOR)
    if len(values) != count:
        raise ColumnError(f"a column of {count} values holds {len(values)}")
    return values


def join(values: Iterable[bytes]) -> bytes:
    """Put values together; each of them must be free of NUL (`is_sendable`)."""
    return SEPARATOR.join(values)


def unsendable(values: Iterable[bytes]) -> list[int]:
    """List the indexes, ascending, of the values that may not stand in a stanza."""
    return [index for index, value in enumerate(values) if not is_sendable(value)]


def blank(column: bytes, count: int, indexes: Iterable[int]) -> bytes:
    """Empty some values of a column and leave every other one where it is.

    Raises:
        ColumnError: the column does not hold `count` values.
    """
    values = split(column, count)
    for index in indexes:
        values[index] = b""
    return join(values)
