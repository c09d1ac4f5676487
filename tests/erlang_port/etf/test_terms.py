import copy
import pickle

import pytest

from erlang_port.etf import Atom, BitString, ImproperList, Map, NativeRecord, Pid, Port


def test_an_atom_is_a_str():
    assert Atom("ok") == "ok"
    assert {Atom("ok"): 1}["ok"] == 1
    assert repr(Atom("ok")) == "Atom('ok')"


def test_a_bitstring_knows_its_bits_only():
    assert BitString(b"\xff", 3) == BitString(b"\xe0", 3)
    assert BitString(b"\xe0", 3) != BitString(b"\xe0", 4)
    assert len(BitString(b"ab", 3)) == 11
    assert hash(BitString(b"\xff", 3)) == hash(BitString(b"\xe0", 3))
    for data, bits in ((b"", 3), (b"a", 0), (b"a", 8)):
        with pytest.raises(ValueError, match="1 to 7 bits"):
            BitString(data, bits)


def test_maps_are_equal_as_erlang_finds_them():
    assert Map(((1, b"a"), (1.0, b"b"))) == Map(((1.0, b"b"), (1, b"a")))
    assert Map(((1, b"a"), (1.0, b"b"))) != Map(((1, b"b"), (1.0, b"a")))
    assert Map(((0.0, 1), ([], 1))) != Map(((-0.0, 1), ([], 1)))
    assert Map(((1, {b"a": 1, b"b": 2}), (1.0, 3))) == Map(((1.0, 3.0), (1, {b"b": 2, b"a": 1})))
    assert list(Map(((1, b"a"), (1.0, b"b")))) == [1, 1.0]
    assert Map(((1, b"a"),)) != {1: b"a"}
    with pytest.raises(TypeError):
        hash(Map(()))


def test_improper_lists():
    assert ImproperList([1], 2) == ImproperList([1], 2)
    assert ImproperList([1], 2) != ImproperList([1], 3)
    assert ImproperList([1], 2) != [1, 2]


def test_identifiers_are_equal_by_kind_and_bytes():
    assert Pid(b"x") == Pid(b"x")
    assert Pid(b"x") != Port(b"x")
    assert len({Pid(b"x"), Pid(b"x"), Pid(b"y")}) == 2


def test_values_that_are_echoed_are_frozen():
    record = NativeRecord(0, Atom("m"), Atom("r"), (Atom("x"),), (1,))
    for value in (Pid(b"x"), BitString(b"\xe0", 3), record):
        with pytest.raises(AttributeError):
            value.__setattr__(next(iter(type(value).__match_args__)), b"y")
        assert copy.deepcopy(value) == value
        assert pickle.loads(pickle.dumps(value)) == value
        assert type(value).__name__ in repr(value)


def test_a_native_record_has_a_name_for_each_value():
    for flags, fields in ((0, ()), (256, (Atom("x"),)), (-1, (Atom("x"),))):
        with pytest.raises(ValueError, match="a name for each value"):
            NativeRecord(flags, Atom("m"), Atom("r"), fields, (1,))
