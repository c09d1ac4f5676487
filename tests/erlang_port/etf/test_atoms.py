import pytest

from erlang_port.etf import Atom, EtfError, atoms, decode, encode

V = b"\x83"


@pytest.mark.parametrize("order", [1, -1])
def test_the_same_bytes_are_two_atoms_in_two_encodings(order):
    both = [(V + b"w\x02\xc4\x8d", "č"), (V + b"d\x00\x02\xc4\x8d", "Ä\x8d")]
    for data, name in both[::order] * 2:
        value = decode(data)
        assert (type(value), value) == (Atom, name)


@pytest.mark.parametrize("head", [b"w\x09", b"d\x00\x09"])
def test_more_atoms_than_are_remembered(head):
    # Bytes from outside cannot fill the memory: what is kept is bounded.
    for n in range(2 * atoms.MAX_CACHED):
        assert decode(V + head + b"x%08d" % n) == f"x{n:08}"
    assert len(atoms.UTF8) <= atoms.MAX_CACHED
    assert len(atoms.LATIN1) <= atoms.MAX_CACHED


def test_more_atoms_than_are_remembered_are_written():
    for n in range(2 * atoms.MAX_CACHED):
        assert encode(Atom(f"y{n:08}")) == V + b"w\x09y%08d" % n


@pytest.mark.parametrize("head", [b"w", b"s", b"v\x00", b"d\x00"])
def test_atoms_with_a_value_of_their_own(head):
    for name, value in (("true", True), ("false", False), ("undefined", None)):
        assert decode(V + head + bytes((len(name),)) + name.encode()) is value


@pytest.mark.parametrize("head", [b"w\x05", b"s\x05", b"v\x00\x05", b"d\x00\x05"])
def test_an_atom_met_before_that_ends_too_early(head):
    decode(V + head + b"hello")
    decode(V + head[:-1] + b"\x04hell")
    with pytest.raises(EtfError, match="ends too early"):
        decode(V + head + b"hell")
    with pytest.raises(EtfError, match="ends too early"):
        decode(V + b"h\x01" + head + b"hell")


def test_the_longest_atom():
    for char in ("a", "é", "💬"):
        name = Atom(char * 255)
        assert decode(encode(name)) == name
        with pytest.raises(EtfError, match="more than 255 characters"):
            encode(Atom(char * 256))
    assert decode(V + b"d\x00\xff" + b"\xe9" * 255) == "é" * 255
    with pytest.raises(EtfError, match="more than 255 characters"):
        decode(V + b"d\x01\x00" + b"\xe9" * 256)


def test_atom_at_gives_an_atom_whatever_its_value():
    for data in (b"w\x04true", b"s\x04true", b"v\x00\x04true", b"d\x00\x04true"):
        assert atoms.atom_at(b"x" + data, 1) == (Atom("true"), 1 + len(data))
        with pytest.raises(IndexError):
            atoms.atom_at(data[:-1], 0)
    with pytest.raises(EtfError, match="not tag 97"):
        atoms.atom_at(b"a\x01", 0)
