"""Bytes to a term.

The first levels are read by a function that calls itself: stanzas and batches are shallow, and a
call of a Python function costs less than a stack of one's own. What is nested deeper, or so long
that its terms must be counted, is read by `read_deep`.

That the input ends too early is found late, by the read that goes beyond it: a check at each read
would cost a tenth of the time.
"""

import zlib
from struct import Struct
from struct import error as struct_error

from erlang_port.etf.atoms import LATIN1, UTF8, latin1_atom, utf8_atom
from erlang_port.etf.decode_deep import read_deep
from erlang_port.etf.errors import EtfError
from erlang_port.etf.limits import DEFAULT, Limits
from erlang_port.etf.mapping import build_map
from erlang_port.etf.scalars import SCALARS
from erlang_port.etf.terms import ImproperList, LocalTerm, Term

_u32 = Struct(">I").unpack_from
_i32 = Struct(">i").unpack_from

#: Levels of nesting that are read by recursion.
_SHALLOW = 32
#: LOCAL_EXT: tag, a hash of four bytes, and one that holds at least a tag.
_MIN_LOCAL = 6


def decode(  # noqa: C901  # each way that a term can be wrong, seen once
    data: bytes | bytearray | memoryview, *, limits: Limits = DEFAULT
) -> Term:
    """Decode one term.

    Args:
        data: The whole term with its version byte (131), compressed or not.
        limits: What the term may cost.

    Returns:
        The term; which Erlang term becomes what, `erlang_port.etf.terms` says.

    Raises:
        EtfError: The bytes are not exactly one term, or the term is beyond the limits.
    """
    buffer = data if type(data) is bytes else bytes(memoryview(data))
    size = len(buffer)
    max_size, _, max_depth, max_terms = limits
    if size > max_size:
        raise EtfError(f"the term has {size} bytes, more than {max_size}", 0)
    if size < 2 or buffer[0] != 131:
        raise EtfError("a term begins with the version byte 131 and has a tag", 0)
    start = 1
    if buffer[1] == 80:
        buffer, start = _inflate(buffer, limits), 0
        size = len(buffer)
    if buffer[start : start + 1] == b"y":
        if size - start < _MIN_LOCAL:
            raise EtfError("the term ends too early", size)
        return LocalTerm(buffer[start:])
    try:
        # A term takes a byte at least: a short input cannot hold too many.
        if size <= max_terms and max_depth > _SHALLOW:
            try:
                (value,), position = _elements(buffer, start, 1, _SHALLOW, limits)
            except RecursionError:
                # The caller's own stack leaves no room.
                value, position = read_deep(buffer, start, limits)
        else:
            value, position = read_deep(buffer, start, limits)
    except (IndexError, struct_error):
        raise EtfError("the term ends too early", size) from None
    except MemoryError:
        raise EtfError("the term needs more memory than there is", start) from None
    if position < size:
        raise EtfError("bytes follow the term", position)
    if position > size:
        raise EtfError("the term ends too early", size)
    return value


def _inflate(buffer: bytes, limits: Limits) -> bytes:
    if len(buffer) < 6:
        raise EtfError("the term ends too early", len(buffer))
    (size,) = _u32(buffer, 2)
    if size > limits.max_decompressed:
        raise EtfError(
            f"the compressed term says {size} bytes, more than {limits.max_decompressed}", 2
        )
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(memoryview(buffer)[6:], size + 1)
    except zlib.error as error:
        raise EtfError(f"the compressed term is damaged: {error}", 6) from None
    except MemoryError:
        raise EtfError("the term needs more memory than there is", 6) from None
    if len(inflated) != size or not stream.eof:
        raise EtfError(f"the compressed term is not the {size} bytes that it says", 2)
    if stream.unused_data:
        raise EtfError("bytes follow the term", len(buffer) - len(stream.unused_data))
    return inflated


def _elements(  # noqa: C901  # one chain, ordered by frequency
    buffer: bytes, position: int, count: int, levels: int, limits: Limits
) -> tuple[list[Term], int]:
    """Read so many terms; return them and the position after them."""
    items: list[Term] = []
    u32 = _u32
    for _ in range(count):
        tag = buffer[position]
        if tag == 109:  # BINARY_EXT
            start = position + 5
            position = start + u32(buffer, position + 1)[0]
            items.append(buffer[start:position])
        elif tag == 119:  # SMALL_ATOM_UTF8_EXT
            start = position + 2
            position = start + buffer[position + 1]
            text = buffer[start:position]
            try:
                items.append(UTF8[text])
            except KeyError:
                items.append(utf8_atom(text, start, position))
        elif tag == 104 and levels:  # SMALL_TUPLE_EXT
            if buffer[position + 1] == 2 and buffer[position + 2] == 109:
                # Attributes of XML are pairs of binaries: half of a stanza's tuples.
                start = position + 7
                end = start + u32(buffer, position + 3)[0]
                if buffer[end] == 109:
                    position = end + 5 + u32(buffer, end + 1)[0]
                    items.append((buffer[start:end], buffer[end + 5 : position]))
                    continue
            inner, position = _elements(
                buffer, position + 2, buffer[position + 1], levels - 1, limits
            )
            items.append(tuple(inner))
        elif tag == 100:  # ATOM_EXT, up to OTP 25
            start = position + 3
            position = start + (buffer[position + 1] << 8 | buffer[position + 2])
            text = buffer[start:position]
            try:
                items.append(LATIN1[text])
            except KeyError:
                items.append(latin1_atom(text, start, position))
        elif tag == 106:  # NIL_EXT
            items.append([])
            position += 1
        elif tag == 97:  # SMALL_INTEGER_EXT
            items.append(buffer[position + 1])
            position += 2
        elif tag == 108 and levels:  # LIST_EXT
            inner, position = _elements(
                buffer, position + 5, u32(buffer, position + 1)[0], levels - 1, limits
            )
            if buffer[position] == 106:
                position += 1
                items.append(inner)
            else:
                (tail,), position = _elements(buffer, position, 1, levels - 1, limits)
                items.append(_with_tail(inner, tail))
        elif tag == 98:  # INTEGER_EXT
            items.append(_i32(buffer, position + 1)[0])
            position += 5
        elif tag == 116 and levels:  # MAP_EXT
            inner, position = _elements(
                buffer, position + 5, 2 * u32(buffer, position + 1)[0], levels - 1, limits
            )
            items.append(build_map(inner, position))
        else:
            scalar = SCALARS.get(tag)
            if scalar is None:
                value, position = read_deep(buffer, position, limits, _SHALLOW - levels)
            else:
                value, position = scalar(buffer, position)
            items.append(value)
    return items, position


def _with_tail(items: list[Term], tail: Term) -> Term:
    if type(tail) is list:
        items += tail
        return items
    if type(tail) is ImproperList:
        return ImproperList(items + tail.items, tail.tail)
    return ImproperList(items, tail) if items else tail
