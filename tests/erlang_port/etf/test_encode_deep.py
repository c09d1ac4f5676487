import tracemalloc

import pytest

from erlang_port.etf import (
    Atom,
    BitString,
    EtfError,
    Fun,
    ImproperList,
    Limits,
    LocalTerm,
    Map,
    NativeRecord,
    decode,
    encode,
)
from erlang_port.etf.encode_deep import has_twins
from erlang_port.etf.limits import DEFAULT

V = b"\x83"


@pytest.mark.parametrize(
    "around",
    [
        lambda value: [value],
        lambda value: (value,),
        lambda value: {b"k": value},
        lambda value: ImproperList([value], 1),
        lambda value: ImproperList([1], (value,)),
        lambda value: Map((([], value),)),
        lambda value: Map(((value, []),)),
        lambda value: NativeRecord(0, Atom("m"), Atom("r"), (Atom("x"),), (value,)),
    ],
)
def test_values_nested_deeply_are_written_without_recursion(around):
    value = b"core"
    for _ in range(10_000):
        value = around(value)
    assert encode(decode(encode(value))) == encode(value)


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


LONG = "x" * (1 << 20)


@pytest.mark.parametrize(
    "value",
    [
        [LONG] * 1_000_000,
        (LONG,) * 1_000_000,
        [bytes(60 << 20)] * 20,
        [bytearray(1 << 20)] * 1_000_000,
        [1 << (8 << 20)] * 1_000_000,
        [BitString(bytes(1 << 20), 3)] * 1_000_000,
        [Fun(bytes(1 << 20))] * 1_000_000,
        ["x" * 255] * 999_000,
        {(LONG, number): number for number in range(1000)},
        LocalTerm(bytes(65 << 20)),
        bytes(65 << 20),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_too_long_is_refused_before_it_is_all_written(value):
    tracemalloc.start()
    with pytest.raises(EtfError, match="more than 67108864"):
        encode(value)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300 << 20


def test_what_cannot_be_written_is_an_error():
    released = memoryview(b"x")
    released.release()
    with pytest.raises(EtfError, match="released"):
        encode(released)
    with pytest.raises(EtfError, match="cannot be written"):
        encode("\ud800")


def test_maps_as_keys_of_maps_are_not_written_again_at_each_level():
    value = ()
    for _ in range(25):
        # Two keys, so that they are compared: 2 ** 25 times the innermost if each level did.
        value = Map(((value, 1), ([], 2)))
    encode(value)
    for _ in range(3000):
        value = Map(((value, 1), ([], 2)))
    written = encode(value)
    assert encode(decode(written)) == written


def test_twins():
    for keys, twins in (
        ([], False),
        ([1], False),
        ([1, 1.0, True, Atom("1"), b"1", (1,), (1.0,)], False),
        ([0.0, -0.0, [], {}, ()], False),
        ([b"a", "b", "a"], True),
        ([[1], (1,), [1]], True),
        ([{1: 2}, {1: 2}], True),
    ):
        assert has_twins(keys, DEFAULT) is twins, keys


def test_keys_too_deep_or_wrong_are_no_twins():
    deep = 1
    for _ in range(20):
        deep = (deep,)
    assert not has_twins([deep, (deep,), object(), object(), 1], DEFAULT)


def test_comparing_keys_is_bounded():
    many = [1] * 100
    with pytest.raises(EtfError, match="more than 1000 terms"):
        has_twins([[many, n] for n in range(1000)], Limits(max_terms=1000))
