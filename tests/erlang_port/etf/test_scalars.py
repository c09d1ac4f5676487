import struct

import pytest

from erlang_port.etf import (
    Atom,
    BitString,
    EtfError,
    Export,
    Fun,
    Limits,
    Pid,
    Port,
    Reference,
    decode,
    encode,
)

V = b"\x83"
NODE = b"w\x01n"

# Most of these only older releases write.
SCALARS = {
    "ATOM_EXT": (b"d\x00\x01\xe9", Atom("é")),
    "SMALL_ATOM_EXT": (b"s\x01\xe9", Atom("é")),
    "ATOM_UTF8_EXT": (b"v\x00\x02\xc3\xa9", Atom("é")),
    "ATOM_EXT true": (b"d\x00\x04true", True),
    "FLOAT_EXT": (b"c" + b"1.50000000000000000000e+00".ljust(31, b"\0"), 1.5),
    "LARGE_BIG_EXT": (b"o" + struct.pack(">IB", 2, 1) + b"\x00\x01", -256),
    "BIT_BINARY_EXT whole": (b"M\x00\x00\x00\x02\x08ab", b"ab"),
    "BIT_BINARY_EXT empty": (b"M\x00\x00\x00\x00\x00", b""),
    "BIT_BINARY_EXT unused bits": (b"M\x00\x00\x00\x01\x03\xff", BitString(b"\xe0", 3)),
    "PID_EXT": (p := b"g" + NODE + bytes(9), Pid(p)),
    "NEW_PID_EXT": (p := b"X" + NODE + bytes(12), Pid(p)),
    "PORT_EXT": (p := b"f" + NODE + bytes(5), Port(p)),
    "NEW_PORT_EXT": (p := b"Y" + NODE + bytes(8), Port(p)),
    "V4_PORT_EXT": (p := b"x" + NODE + bytes(12), Port(p)),
    "REFERENCE_EXT": (p := b"e" + NODE + bytes(5), Reference(p)),
    "NEW_REFERENCE_EXT": (p := b"r\x00\x03" + NODE + bytes(13), Reference(p)),
    "NEWER_REFERENCE_EXT": (p := b"Z\x00\x05" + NODE + bytes(24), Reference(p)),
    "NEWER_REFERENCE_EXT of no words": (p := b"Z\x00\x00" + NODE + bytes(4), Reference(p)),
    "a node's name in Latin-1": (p := b"gd\x00\x01\xe9" + bytes(9), Pid(p)),
    "NEW_FUN_EXT": (p := b"p\x00\x00\x00\x3f" + bytes(59), Fun(p)),
    "EXPORT_EXT": (p := b"q" + b"w\x05lists" + b"d\x00\x03map" + b"a\x02", Export(p)),
    "EXPORT_EXT, arity of four bytes": (p := b"q" + NODE * 2 + b"b\0\0\0\3", Export(p)),
    "STRING_EXT": (b"k\x00\x03abc", [97, 98, 99]),
    "NEW_FLOAT_EXT": (b"F\x3f\xf8" + bytes(6), 1.5),
    "SMALL_BIG_EXT not in the shortest form": (b"n\x02\x00\x05\x00", 5),
    "SMALL_BIG_EXT of no bytes": (b"n\x00\x00", 0),
}  # fmt: skip
ECHOED = {Pid, Port, Reference, Fun, Export}


@pytest.mark.parametrize("name", SCALARS)
def test_each_tag(name):
    data, value = SCALARS[name]
    assert decode(V + data) == value
    assert type(decode(V + data)) is type(value)
    assert decode(encode(value)) == value
    assert decode(V + b"h\x02" + data + data) == (value, value)


@pytest.mark.parametrize("name", SCALARS)
def test_each_tag_is_read_alike_in_the_depth(name):
    data, value = SCALARS[name]
    assert repr(decode(V + data, limits=Limits(max_depth=32))) == repr(value)


@pytest.mark.parametrize("name", SCALARS)
def test_one_that_ends_too_early(name):
    data, _ = SCALARS[name]
    for cut in range(len(data)):
        with pytest.raises(EtfError) as caught:
            decode(V + data[:cut])
        assert 0 <= caught.value.offset <= cut + 1


def test_what_is_echoed_keeps_its_bytes():
    for data, value in SCALARS.values():
        if type(value) in ECHOED:
            assert encode(decode(V + data)) == V + data
            assert encode((decode(V + data),)) == V + b"h\x01" + data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (V + b"F\x7f\xf0" + bytes(6), "infinite"),
        (V + b"F\x7f\xf8" + bytes(6), "infinite"),
        (V + b"c" + b"inf".ljust(31, b"\0"), "does not hold a number"),
        (V + b"c" + b"1".ljust(31, b"\0"), "does not hold a number"),
        (V + b"c" + b" 1.5".ljust(31, b"\0"), "does not hold a number"),
        (V + b"c" + b"1.0e999".ljust(31, b"\0"), "infinite"),
        (V + b"w\x01\xff", "not valid UTF-8"),
        (V + b"v\x01\x00" + b"a" * 256, "more than 255 characters"),
        (V + b"M\x00\x00\x00\x01\x09x", "has not 9 bits"),
        (V + b"M\x00\x00\x00\x01\x00x", "has not 0 bits"),
        (V + b"M\x00\x00\x00\x00\x03", "has not 3 bits"),
        (V + b"ga\x01" + bytes(9), "an atom is expected"),
        (V + b"Z\x00\x06" + NODE + bytes(28), "0 to 5 words"),
        (V + b"r\x00\x06" + NODE + bytes(25), "1 to 5 words"),
        (V + b"r\x00\x00" + NODE + bytes(1), "1 to 5 words"),
        (V + b"p\x00\x00\x00\x05\x00", "has not 5 bytes"),
        (V + b"q" + NODE + NODE + b"j", "arity"),
    ],
)
def test_bad_bytes_say_what_is_wrong(data, reason):
    with pytest.raises(EtfError, match=reason):
        decode(data)
