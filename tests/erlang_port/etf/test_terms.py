import pytest

from erlang_port.etf import Atom, BitString, EtfError, ImproperList, Map, Pid, Port


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


def test_the_error_says_where():
    error = EtfError("no term", 7)
    assert (error.reason, error.offset, str(error)) == ("no term", 7, "no term (at offset 7)")
