"""Atoms: their values in Python, their limits, and those that were met already."""

from struct import Struct

from erlang_port.etf.errors import EtfError
from erlang_port.etf.terms import Atom, Term

_u16 = Struct(">H").unpack_from

#: The most characters of an atom (Efficiency Guide, "System Limits").
MAX_ATOM = 255
#: The values of atoms decoded so far, by their bytes in UTF-8 and in Latin-1.
UTF8: dict[bytes, Term] = {}
LATIN1: dict[bytes, Term] = {}
#: How many of each are kept: the bytes come from outside.
MAX_CACHED = 4096

#: What Python calls an atom that has a value of its own there.
_VALUES: dict[str, Term] = {"true": True, "false": False, "undefined": None}


def atom(text: bytes, encoding: str, start: int, end: int) -> Term:
    """The value of an atom of these bytes, read from `start` to `end`.

    Raises:
        EtfError: Too long, or not of this encoding.
        IndexError: The input ended before `end`.
    """
    if len(text) != end - start:
        raise IndexError
    try:
        name = text.decode(encoding)
    except UnicodeDecodeError:
        raise EtfError("an atom is not valid UTF-8", start) from None
    if len(name) > MAX_ATOM:
        raise EtfError(f"an atom has more than {MAX_ATOM} characters", start)
    return _VALUES[name] if name in _VALUES else Atom(name)


def utf8_atom(text: bytes, start: int, end: int) -> Term:
    """As `atom`, for bytes that are not in `UTF8`: remembers the value there."""
    value = atom(text, "utf-8", start, end)
    if len(UTF8) < MAX_CACHED:
        UTF8[text] = value
    return value


def latin1_atom(text: bytes, start: int, end: int) -> Term:
    """As `atom`, for bytes that are not in `LATIN1`: remembers the value there."""
    value = atom(text, "latin-1", start, end)
    if len(LATIN1) < MAX_CACHED:
        LATIN1[text] = value
    return value


def atom_at(buffer: bytes, position: int) -> tuple[Atom, int]:
    """The atom at a position where only an atom may stand, as an `Atom` whatever its value."""
    tag = buffer[position]
    if tag in (119, 115):
        start = position + 2
        end = start + buffer[position + 1]
    elif tag in (118, 100):
        start = position + 3
        end = start + _u16(buffer, position + 1)[0]
    else:
        raise EtfError(f"an atom is expected here, not tag {tag}", position)
    text = buffer[start:end]
    atom(text, "utf-8" if tag >= 118 else "latin-1", start, end)
    return Atom(text.decode("utf-8" if tag >= 118 else "latin-1")), end


def after_atom(buffer: bytes, position: int) -> int:
    """The position after the atom that `atom_at` would give, for who does not need it."""
    if buffer[position] != 119:  # SMALL_ATOM_UTF8_EXT
        return atom_at(buffer, position)[1]
    start = position + 2
    end = start + buffer[position + 1]
    text = buffer[start:end]
    if text not in UTF8:
        utf8_atom(text, start, end)
    return end
