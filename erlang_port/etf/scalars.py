"""The rarer terms that hold no other term: big integers, old atoms and floats, identifiers.

Each reader takes the input and the position of the tag, and returns the value and the position
after it. A read beyond the input raises `IndexError` or `struct.error`, or leaves a position beyond
the end; the caller makes an `EtfError` of either.
"""

import re
from collections.abc import Callable
from struct import Struct

from erlang_port.etf.atoms import LATIN1, after_atom, atom, latin1_atom
from erlang_port.etf.errors import EtfError
from erlang_port.etf.terms import BitString, Export, Fun, Opaque, Pid, Port, Reference, Term

_u16 = Struct(">H").unpack_from
_u32 = Struct(">I").unpack_from
_f64 = Struct(">d").unpack_from

#: The most words of a reference's id: three, and two more that an alias of OTP 24 and later has.
_MAX_REFERENCE_WORDS = 5
#: A fun without environment: tag, size, arity, uniq, index, free variables and the shortest of
#: module, old index, old uniq and pid.
_MIN_FUN = 4 + 1 + 16 + 4 + 4 + 2 + 2 + 2 + 15

_FLOAT = re.compile(rb"[-+]?[0-9]+\.[0-9]+([eE][-+]?[0-9]+)?\Z")


def _atom_utf8(buffer: bytes, position: int) -> tuple[Term, int]:
    start = position + 3
    end = start + _u16(buffer, position + 1)[0]
    return atom(buffer[start:end], "utf-8", start, end), end


def _atom_latin1(buffer: bytes, position: int) -> tuple[Term, int]:
    start = position + 3
    end = start + _u16(buffer, position + 1)[0]
    text = buffer[start:end]
    return (LATIN1[text] if text in LATIN1 else latin1_atom(text, start, end)), end


def _small_atom_latin1(buffer: bytes, position: int) -> tuple[Term, int]:
    start = position + 2
    end = start + buffer[position + 1]
    return atom(buffer[start:end], "latin-1", start, end), end


def _small_big(buffer: bytes, position: int) -> tuple[Term, int]:
    start = position + 3
    return _big(buffer, start, start + buffer[position + 1], buffer[position + 2])


def _large_big(buffer: bytes, position: int) -> tuple[Term, int]:
    start = position + 6
    return _big(buffer, start, start + _u32(buffer, position + 1)[0], buffer[position + 5])


def _big(buffer: bytes, start: int, end: int, sign: int) -> tuple[Term, int]:
    if end > len(buffer):
        raise IndexError
    value = int.from_bytes(buffer[start:end], "little")
    return -value if sign else value, end


def _bit_binary(buffer: bytes, position: int) -> tuple[Term, int]:
    start = position + 6
    end = start + _u32(buffer, position + 1)[0]
    bits = buffer[position + 5]
    if end > len(buffer):
        raise IndexError
    if bits > 8 or (bits == 0) != (start == end):
        raise EtfError(f"a bitstring's last byte has not {bits} bits", position)
    data = buffer[start:end]
    return (data if bits in (0, 8) else BitString(data, bits)), end


def _string(buffer: bytes, position: int) -> tuple[Term, int]:
    start = position + 3
    end = start + _u16(buffer, position + 1)[0]
    return list(buffer[start:end]), end


def _float(buffer: bytes, position: int) -> tuple[Term, int]:
    number = _f64(buffer, position + 1)[0]
    if number - number != 0.0:
        raise EtfError("a float is neither infinite nor not a number", position)
    return number, position + 9


def _old_float(buffer: bytes, position: int) -> tuple[Term, int]:
    end = position + 32
    text = buffer[position + 1 : end]
    if len(text) != 31:
        raise IndexError
    text = text.split(b"\0", 1)[0]
    if not _FLOAT.match(text):
        raise EtfError("a FLOAT_EXT does not hold a number", position)
    number = float(text)
    if number - number != 0.0:
        raise EtfError("a float is neither infinite nor not a number", position)
    return number, end


def _identifier(
    kind: type[Opaque], before: int, after: int
) -> Callable[[bytes, int], tuple[Term, int]]:
    """A reader of a node's name with a number of bytes before and after it."""

    def read(buffer: bytes, position: int) -> tuple[Term, int]:
        end = after_atom(buffer, position + 1 + before) + after
        if end > len(buffer):
            raise IndexError
        return kind(buffer[position:end]), end

    return read


def _reference(creation: int, least: int) -> Callable[[bytes, int], tuple[Term, int]]:
    def read(buffer: bytes, position: int) -> tuple[Term, int]:
        words = _u16(buffer, position + 1)[0]
        if not least <= words <= _MAX_REFERENCE_WORDS:
            raise EtfError(f"a reference has {least} to {_MAX_REFERENCE_WORDS} words", position)
        return _identifier(Reference, 2, creation + 4 * words)(buffer, position)

    return read


def _fun(buffer: bytes, position: int) -> tuple[Term, int]:
    size = _u32(buffer, position + 1)[0]
    end = position + 1 + size
    if size < _MIN_FUN:
        raise EtfError(f"a fun has not {size} bytes", position)
    if end > len(buffer):
        raise IndexError
    return Fun(buffer[position:end]), end


def _export(buffer: bytes, position: int) -> tuple[Term, int]:
    end = after_atom(buffer, after_atom(buffer, position + 1))
    if buffer[end] not in (97, 98):
        raise EtfError("an external fun's arity is an integer of one byte or four", end)
    end += 2 if buffer[end] == 97 else 5
    if end > len(buffer):
        raise IndexError
    return Export(buffer[position:end]), end


#: The reader of each tag.
SCALARS: dict[int, Callable[[bytes, int], tuple[Term, int]]] = {
    70: _float,  # NEW_FLOAT_EXT
    77: _bit_binary,  # BIT_BINARY_EXT
    88: _identifier(Pid, 0, 12),  # NEW_PID_EXT
    89: _identifier(Port, 0, 8),  # NEW_PORT_EXT
    90: _reference(creation=4, least=0),  # NEWER_REFERENCE_EXT
    99: _old_float,  # FLOAT_EXT
    100: _atom_latin1,  # ATOM_EXT
    101: _identifier(Reference, 0, 5),  # REFERENCE_EXT
    102: _identifier(Port, 0, 5),  # PORT_EXT
    103: _identifier(Pid, 0, 9),  # PID_EXT
    107: _string,  # STRING_EXT
    110: _small_big,  # SMALL_BIG_EXT
    111: _large_big,  # LARGE_BIG_EXT
    112: _fun,  # NEW_FUN_EXT
    113: _export,  # EXPORT_EXT
    114: _reference(creation=1, least=1),  # NEW_REFERENCE_EXT
    115: _small_atom_latin1,  # SMALL_ATOM_EXT
    118: _atom_utf8,  # ATOM_UTF8_EXT
    120: _identifier(Port, 0, 12),  # V4_PORT_EXT
}
