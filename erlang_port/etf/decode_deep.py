"""Bytes to a term however deep it is nested: one loop with a stack of its own.

A container that begins is pushed and its elements are collected; when the last one is there it is
built and handed to the container around it.
"""

from collections.abc import Iterator
from itertools import repeat
from struct import Struct
from typing import NoReturn

from erlang_port.etf.atoms import UTF8, atom_at, utf8_atom
from erlang_port.etf.errors import EtfError
from erlang_port.etf.limits import Limits
from erlang_port.etf.mapping import build_map
from erlang_port.etf.scalars import SCALARS
from erlang_port.etf.terms import Atom, ImproperList, NativeRecord, Term

_u32 = Struct(">I").unpack_from
_i32 = Struct(">i").unpack_from

# What a container becomes when its last element is there.
_ROOT, _TUPLE, _LIST, _TAIL, _MAP, _RECORD = range(6)

_Head = tuple[int, Atom, Atom, tuple[Atom, ...]]
_Frame = tuple[Iterator[None], list[Term], int, Term]


def _refuse_count(buffer: bytes, position: int, terms: int, limits: Limits) -> NoReturn:
    if terms > limits.max_terms:
        raise EtfError(f"more than {limits.max_terms} terms", position)
    raise EtfError("the term ends too early", len(buffer))


def read_deep(  # noqa: C901  # one loop, for whatever nesting
    buffer: bytes, position: int, limits: Limits, above: int = 0
) -> tuple[Term, int]:
    """Read the term at a position; return it and the position after it.

    Args:
        buffer: The input.
        position: Where the term begins.
        limits: What it may cost.
        above: How many containers it lies in.

    Raises:
        EtfError: It is no term, or beyond the limits.
        IndexError: The input ends too early; so does `struct.error`.
    """
    u32 = _u32
    atoms = UTF8
    size = len(buffer)
    max_depth = limits.max_depth - above
    max_terms = limits.max_terms
    terms = 1
    stack: list[_Frame] = []
    items: list[Term] = []
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
                items.append(buffer[start:position])
                continue
            if tag == 119:  # SMALL_ATOM_UTF8_EXT
                start = position + 2
                position = start + buffer[position + 1]
                text = buffer[start:position]
                try:
                    items.append(atoms[text])
                except KeyError:
                    items.append(utf8_atom(text, start, position))
                continue
            if tag == 104:  # SMALL_TUPLE_EXT
                elements = buffer[position + 1]
                position += 2
                if not elements:
                    items.append(())
                    continue
                new = _TUPLE
            elif tag == 106:  # NIL_EXT
                items.append([])
                position += 1
                continue
            elif tag == 108:  # LIST_EXT
                elements = u32(buffer, position + 1)[0]
                position += 5
                new = _LIST
            elif tag == 97:  # SMALL_INTEGER_EXT
                items.append(buffer[position + 1])
                position += 2
                continue
            elif tag == 98:  # INTEGER_EXT
                items.append(_i32(buffer, position + 1)[0])
                position += 5
                continue
            elif tag == 116:  # MAP_EXT
                elements = u32(buffer, position + 1)[0] * 2
                position += 5
                if not elements:
                    items.append({})
                    continue
                new = _MAP
            elif tag == 107:  # STRING_EXT
                start = position + 3
                position = start + (buffer[position + 1] << 8 | buffer[position + 2])
                terms += position - start
                if terms > max_terms or position > size:
                    _refuse_count(buffer, start, terms, limits)
                items.append(list(buffer[start:position]))
                continue
            elif tag == 105:  # LARGE_TUPLE_EXT
                elements = u32(buffer, position + 1)[0]
                position += 5
                if not elements:
                    items.append(())
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
                items.append(value)
                continue
            # A container begins.
            terms += elements
            if terms > max_terms or elements > size - position:
                _refuse_count(buffer, position, terms, limits)
            if len(stack) >= max_depth:
                raise EtfError(f"nested more than {limits.max_depth} deep", position)
            stack.append((todo, items, kind, extra))
            items = []
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
                return items[0], position
            todo, items, kind, extra = stack.pop()
            items.append(value)


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
