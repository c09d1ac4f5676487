import enum
from typing import NamedTuple

import pytest

from erlang_port.etf import Atom, EtfError, Limits, Map, decode, encode

V = b"\x83"


class Colour(enum.IntEnum):
    RED = 300


class Point(NamedTuple):
    x: int
    y: int


class Name(str):
    __slots__ = ()

    def __str__(self):
        return "somebody else"


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (None, b"w\x09undefined"),
        (True, b"w\x04true"),
        (False, b"w\x05false"),
        (Atom("true"), b"w\x04true"),
        (Atom("ok"), b"w\x02ok"),
        (Atom("é" * 200), b"v\x01\x90" + "é".encode() * 200),
        ("é", b"m\x00\x00\x00\x02\xc3\xa9"),
        (bytearray(b"x"), b"m\x00\x00\x00\x01x"),
        (memoryview(b"x"), b"m\x00\x00\x00\x01x"),
        (0, b"a\x00"),
        (255, b"a\xff"),
        (256, b"b\x00\x00\x01\x00"),
        (-1, b"b\xff\xff\xff\xff"),
        (-(1 << 31), b"b\x80\x00\x00\x00"),
        (1 << 31, b"n\x04\x00\x00\x00\x00\x80"),
        (-0.0, b"F\x80" + bytes(7)),
        ([], b"j"),
        ((), b"h\x00"),
        ({}, b"t\x00\x00\x00\x00"),
        (Colour.RED, b"b\x00\x00\x01\x2c"),
        (Point(1, 2), b"h\x02a\x01a\x02"),
        (Name("me"), b"m\x00\x00\x00\x02me"),
    ],
)
def test_each_kind(value, data):
    assert encode(value) == V + data
    assert encode([value]) == V + b"l\x00\x00\x00\x01" + data + b"j"
    # Nested beyond what is written by recursion.
    for _ in range(40):
        value = (value,)
    assert encode(value) == V + b"h\x01" * 40 + data


class Hostile:
    pass


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "infinite or no number"),
        (float("inf"), "infinite or no number"),
        (object(), "no term for a object"),
        (Hostile(), "no term for a Hostile"),
        ({1, 2}, "no term for a set"),
        (1j, "no term for a complex"),
        ("\ud800", "cannot be written"),
        (Atom("\ud800"), "cannot be written"),
        (Atom("x" * 256), "more than 255 characters"),
        ({"a": 1, b"a": 2}, "one key in Erlang"),
        ({None: 1, Atom("undefined"): 2}, "one key in Erlang"),
        ({True: 1, Atom("true"): 2}, "one key in Erlang"),
    ],
)
def test_what_erlang_has_no_term_for(value, reason):
    with pytest.raises(EtfError, match=reason):
        encode(value)
    with pytest.raises(EtfError, match=reason):
        encode([[(value,)]])


def test_a_cycle_is_an_error():
    cycle = []
    cycle.append(cycle)
    with pytest.raises(EtfError, match="nested more than 32000 deep"):
        encode(cycle)
    cycle = {}
    cycle[b"k"] = [(cycle,)]
    with pytest.raises(EtfError, match="nested more than 32000 deep"):
        encode(cycle)


def test_a_small_value_that_is_long_when_written_is_an_error():
    twice = [b"x"]
    for _ in range(40):
        twice = [twice, twice]
    with pytest.raises(EtfError, match="more than 1000000 terms"):
        encode(twice)
    with pytest.raises(EtfError, match="more than 67108864"):
        encode([bytes(1 << 20)] * 100)
    with pytest.raises(EtfError, match="an integer has"):
        encode(1 << (8 << 20), limits=Limits(max_size=1 << 20))


def test_limits():
    assert encode([1] * 10, limits=Limits(max_size=27))
    with pytest.raises(EtfError, match="more than 26"):
        encode([1] * 10, limits=Limits(max_size=26))
    with pytest.raises(EtfError, match="more than 4 terms"):
        encode([1] * 10, limits=Limits(max_terms=4))
    for limit in (5, 50):
        value = []
        for _ in range(limit - 1):
            value = [value]
        encode(value, limits=Limits(max_depth=limit))
        with pytest.raises(EtfError, match=f"nested more than {limit - 2} deep"):
            encode(value, limits=Limits(max_depth=limit - 2))


def test_a_map_keeps_its_pairs():
    pairs = Map(((1, b"a"), (1.0, b"b"), ([], b"c")))
    assert decode(encode(pairs)) == pairs
