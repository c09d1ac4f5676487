"""A term to bytes.

As in `decode`, the first levels are written by a function that calls itself, what is nested deeper
by `write_deep`.
"""

from collections.abc import Iterable
from struct import Struct
from struct import error as struct_error

from erlang_port.etf.encode_deep import (
    ATOMS,
    CONSTANTS,
    HEADS,
    MAX_SHORT,
    SMALL_INTEGERS,
    TUPLES,
    Parts,
    count_long,
    long_head,
    refuse_twins,
    too_many,
    write_atom,
    write_deep,
)
from erlang_port.etf.errors import EtfError
from erlang_port.etf.limits import DEFAULT, Limits
from erlang_port.etf.terms import Atom, LocalTerm, Term

_u32 = Struct(">BI").pack
_i32 = Struct(">Bi").pack

_VERSION = (b"\x83",)

#: Levels of nesting that are written by recursion.
_SHALLOW = 32


def encode(term: Term, *, limits: Limits = DEFAULT) -> bytes:
    """Encode one term, with its version byte.

    A `str` that is no `Atom` is written as a UTF-8 binary; an int, str, tuple, list or dict of a
    subclass as what it derives from.

    Args:
        term: The term.
        limits: What it may cost; `max_decompressed` is not used.

    Raises:
        EtfError: A value that Erlang has no term for, or the term is beyond the limits.
    """
    parts = Parts(_VERSION)
    try:
        if type(term) is LocalTerm:
            count_long(len(term.raw), parts, limits)
            parts.append(term.raw)
        elif limits.max_depth > _SHALLOW:
            try:
                _write((term,), parts, _SHALLOW, 2 * limits.max_terms, limits)
            except RecursionError:
                # The caller's own stack leaves no room.
                parts = Parts(_VERSION)
                write_deep(term, parts, limits)
        else:
            write_deep(term, parts, limits)
        # Only if the parts might have too many bytes are they added up.
        if parts.long + MAX_SHORT * len(parts) > limits.max_size:
            size = sum(map(len, parts))
            if size > limits.max_size:
                raise EtfError(f"the term has {size} bytes, more than {limits.max_size}", 0)
        return b"".join(parts)
    except (EtfError, RecursionError):
        # The latter: no room for one more call, the caller's fault, whatever the term.
        raise
    except MemoryError:
        raise EtfError("the term needs more memory than there is", len(parts)) from None
    except (RuntimeError, ValueError, struct_error) as error:
        # A dict that another thread changes meanwhile, a lone surrogate, a released memoryview, a
        # length beyond 32 bits.
        raise EtfError(f"the term cannot be written: {error}", len(parts)) from None


def _write(  # noqa: C901  # one chain, ordered by frequency
    values: Iterable[Term], parts: Parts, levels: int, most: int, limits: Limits
) -> None:
    for value in values:
        kind = type(value)
        if kind is bytes:
            size = len(value)
            parts.append(HEADS[size] if size < 256 else long_head(size, parts, limits))
            parts.append(value)
        elif kind is Atom:
            parts.append(ATOMS[value] if value in ATOMS else write_atom(value, parts, limits))
        elif kind is tuple and levels:
            size = len(value)
            if len(parts) + size > most:
                too_many(parts, limits)
            if size == 2:
                first, second = value
                plain = type(first) is bytes and type(second) is bytes
                if plain and len(first) < 256 and len(second) < 256:
                    # As in decode: an attribute of XML.
                    parts += (b"h\x02", HEADS[len(first)], first, HEADS[len(second)], second)
                    continue
            parts.append(TUPLES[size] if size < 256 else _u32(105, size))
            _write(value, parts, levels - 1, most, limits)
        elif kind is list and levels:
            if value:
                size = len(value)
                if len(parts) + size > most:
                    too_many(parts, limits)
                parts.append(_u32(108, size))
                _write(value, parts, levels - 1, most, limits)
            parts.append(b"j")
        elif kind is int and -0x80000000 <= value <= 0x7FFFFFFF:
            parts.append(SMALL_INTEGERS[value] if 0 <= value < 256 else _i32(98, value))
        elif kind is str:
            text = value.encode()
            size = len(text)
            parts.append(HEADS[size] if size < 256 else long_head(size, parts, limits))
            parts.append(text)
        elif kind is dict and levels:
            size = len(value)
            if len(parts) + 2 * size > most:
                too_many(parts, limits)
            parts.append(_u32(116, size))
            refuse_twins(value, parts, limits)
            for pair in value.items():
                _write(pair, parts, levels - 1, most, limits)
        elif value is None or kind is bool:
            parts.append(CONSTANTS[value])
        else:
            write_deep(value, parts, limits, _SHALLOW - levels)
