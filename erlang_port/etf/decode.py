"""Bytes to a term, in one loop with a stack of its own.

A container that begins is pushed and its elements are collected; when the last one is there it is
built and handed to the container around it. That the input ends too early is found late, by the
read that goes beyond it: a check at each read would cost a tenth of the time.
"""

import zlib
from collections.abc import Callable, Iterator
from itertools import repeat
from struct import Struct
from struct import error as struct_error
from typing import NoReturn

from erlang_port.etf.errors import EtfError
from erlang_port.etf.limits import DEFAULT, Limits
from erlang_port.etf.mapping import build_map
from erlang_port.etf.scalars import SCALARS, atom, atom_at
from erlang_port.etf.terms import Atom, ImproperList, LocalTerm, NativeRecord, Term

_u32 = Struct(">I").unpack_from
_i32 = Struct(">i").unpack_from
_f64 = Struct(">d").unpack_from

# What a container becomes when its last element is there.
_ROOT, _TUPLE, _LIST, _TAIL, _MAP, _RECORD = range(6)

#: The atoms met so far, by their bytes. Bounded, since the bytes come from outside.
_atoms: dict[bytes, Term] = {}
_MAX_ATOMS = 4096

_Head = tuple[int, Atom, Atom, tuple[Atom, ...]]
_Frame = tuple[Iterator[None], list[Term], Callable[[Term], None], int, Term]


def decode(data: bytes | bytearray | memoryview, *, limits: Limits = DEFAULT) -> Term:
    """Decode one term.

    Args:
        data: The whole term with its version byte (131), compressed or not.
        limits: What the term may cost.

    Returns:
        The term; which Erlang term becomes what, `erlang_port.etf.terms` says.

    Raises:
        EtfError: The bytes are not exactly one term, or the term is beyond the limits.
    """
    buffer = bytes(data)
    size = len(buffer)
    if size > limits.max_size:
        raise EtfError(f"the term has {size} bytes, more than {limits.max_size}", 0)
    if not buffer or buffer[0] != 131:
        raise EtfError("a term begins with the version byte 131", 0)
    start = 1
    if size > 1:
        if buffer[1] == 80:
            buffer, start = _inflate(buffer, limits), 0
        elif buffer[1] == 121:
            if size < 7:
                raise EtfError("the term ends too early", size)
            return LocalTerm(buffer[1:])
    try:
        return _read(buffer, start, limits)
    except (IndexError, struct_error):
        raise EtfError("the term ends too early", len(buffer)) from None
    except MemoryError:
        raise EtfError("the term needs more memory than there is", 0) from None


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
    if len(inflated) != size or not stream.eof:
        raise EtfError(f"the compressed term is not the {size} bytes that it says", 2)
    if stream.unused_data:
        raise EtfError("bytes follow the term", len(buffer) - len(stream.unused_data))
    return inflated


def _refuse_count(buffer: bytes, position: int, terms: int, limits: Limits) -> NoReturn:
    if terms > limits.max_terms:
        raise EtfError(f"more than {limits.max_terms} terms", position)
    raise EtfError("the term ends too early", len(buffer))


def _read(buffer: bytes, position: int, limits: Limits) -> Term:  # noqa: C901  # one loop: speed
    u32 = _u32
    atoms = _atoms
    size = len(buffer)
    max_depth = limits.max_depth
    max_terms = limits.max_terms
    terms = 1
    stack: list[_Frame] = []
    items: list[Term] = []
    append: Callable[[Term], None] = items.append
    todo: Iterator[None] = repeat(None, 1)
    kind = _ROOT
    extra: Term = None
    head: Term = None
    value: Term
    while True:
        for _ in todo:
            tag = buffer[position]
            if tag == 109:  # BINARY_EXT
                start = position + 5
                position = start + u32(buffer, position + 1)[0]
                append(buffer[start:position])
                continue
            if tag == 119:  # SMALL_ATOM_UTF8_EXT
                start = position + 2
                position = start + buffer[position + 1]
                text = buffer[start:position]
                try:
                    append(atoms[text])
                except KeyError:
                    value = atom(text, "utf-8", start, position)
                    if len(atoms) < _MAX_ATOMS:
                        atoms[text] = value
                    append(value)
                continue
            if tag == 104:  # SMALL_TUPLE_EXT
                elements = buffer[position + 1]
                position += 2
                if not elements:
                    append(())
                    continue
                new = _TUPLE
            elif tag == 106:  # NIL_EXT
                append([])
                position += 1
                continue
            elif tag == 108:  # LIST_EXT
                elements = u32(buffer, position + 1)[0]
                position += 5
                new = _LIST
            elif tag == 97:  # SMALL_INTEGER_EXT
                append(buffer[position + 1])
                position += 2
                continue
            elif tag == 98:  # INTEGER_EXT
                append(_i32(buffer, position + 1)[0])
                position += 5
                continue
            elif tag == 116:  # MAP_EXT
                elements = u32(buffer, position + 1)[0] * 2
                position += 5
                if not elements:
                    append({})
                    continue
                new = _MAP
            elif tag == 107:  # STRING_EXT
                start = position + 3
                position = start + (buffer[position + 1] << 8 | buffer[position + 2])
                terms += position - start
                if terms > max_terms or position > size:
                    _refuse_count(buffer, start, terms, limits)
                append(list(buffer[start:position]))
                continue
            elif tag == 70:  # NEW_FLOAT_EXT
                number = _f64(buffer, position + 1)[0]
                if number - number != 0.0:
                    raise EtfError("a float is neither infinite nor not a number", position)
                append(number)
                position += 9
                continue
            elif tag == 105:  # LARGE_TUPLE_EXT
                elements = u32(buffer, position + 1)[0]
                position += 5
                if not elements:
                    append(())
                    continue
                new = _TUPLE
            elif tag == 67:  # a native record, OTP 29
                elements = u32(buffer, position + 1)[0]
                terms += elements + 2
                if terms > max_terms or elements > size - position:
                    _refuse_count(buffer, position, terms, limits)
                head, position = _record_head(buffer, position, elements)
                new = _RECORD
            else:
                scalar = SCALARS.get(tag)
                if scalar is None:
                    raise EtfError(f"unknown tag {tag}", position)
                value, position = scalar(buffer, position)
                append(value)
                continue
            # A container begins.
            terms += elements
            if terms > max_terms or elements > size - position:
                _refuse_count(buffer, position, terms, limits)
            if len(stack) >= max_depth:
                raise EtfError(f"nested more than {max_depth} deep", position)
            inner: list[Term] = []
            if new == _TUPLE:
                # A tuple mostly begins with binaries, and often holds nothing else.
                while elements and buffer[position] == 109:
                    start = position + 5
                    position = start + u32(buffer, position + 1)[0]
                    inner.append(buffer[start:position])
                    elements -= 1
                if not elements:
                    append(tuple(inner))
                    continue
            stack.append((todo, items, append, kind, extra))
            items = inner
            append = items.append
            todo = repeat(None, elements)
            kind = new
            extra = head
            break
        else:
            # The last element of a container is there.
            if kind == _TUPLE:
                value = tuple(items)
            elif kind == _LIST:
                value = items
                tag = buffer[position]
                if tag == 106:
                    position += 1
                elif tag == 108:
                    # A tail that is a list goes on with the same list.
                    elements = u32(buffer, position + 1)[0]
                    position += 5
                    terms += elements
                    if terms > max_terms or elements > size - position:
                        _refuse_count(buffer, position, terms, limits)
                    todo = repeat(None, elements)
                    continue
                elif tag == 107:
                    start = position + 3
                    position = start + (buffer[position + 1] << 8 | buffer[position + 2])
                    terms += position - start
                    if terms > max_terms or position > size:
                        _refuse_count(buffer, start, terms, limits)
                    items.extend(buffer[start:position])
                else:
                    extra = items
                    items = []
                    append = items.append
                    todo = repeat(None, 1)
                    kind = _TAIL
                    continue
            elif kind == _MAP:
                value = build_map(items, position)
            elif kind == _TAIL:
                value = ImproperList(extra, items[0]) if extra else items[0]
            elif kind == _RECORD:
                value = _record(extra, items)
            else:
                if position == size:
                    return items[0]
                reason = "bytes follow the term" if position < size else "the term ends too early"
                raise EtfError(reason, min(position, size))
            todo, items, append, kind, extra = stack.pop()
            append(value)


def _record(head: _Head, values: list[Term]) -> NativeRecord:
    return NativeRecord(*head, tuple(values))


def _record_head(buffer: bytes, position: int, fields: int) -> tuple[_Head, int]:
    flags = buffer[position + 5]
    position += 6
    names = []
    for _ in range(fields + 2):
        name, position = atom_at(buffer, position)
        names.append(name)
    return (flags, names[0], names[1], tuple(names[2:])), position
