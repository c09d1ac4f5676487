import struct
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlang_port.etf import (
    Atom,
    BitString,
    EtfError,
    ImproperList,
    Limits,
    LocalTerm,
    NativeRecord,
    Pid,
    Port,
    Reference,
    decode,
    encode,
)
from tests.erlang_port.etf.strategies import terms

V = b"\x83"
NODE = b"w\x01n"

# Tags that only older releases write, and those of the newest.
OLD_AND_NEW = {
    "ATOM_EXT": (b"d\x00\x01\xe9", Atom("é")),
    "SMALL_ATOM_EXT": (b"s\x01\xe9", Atom("é")),
    "ATOM_UTF8_EXT": (b"v\x00\x02\xc3\xa9", Atom("é")),
    "ATOM_EXT true": (b"d\x00\x04true", True),
    "FLOAT_EXT": (b"c" + b"1.50000000000000000000e+00".ljust(31, b"\0"), 1.5),
    "LARGE_BIG_EXT": (b"o" + struct.pack(">IB", 2, 1) + b"\x00\x01", -256),
    "BIT_BINARY_EXT whole": (b"M\x00\x00\x00\x02\x08ab", b"ab"),
    "BIT_BINARY_EXT empty": (b"M\x00\x00\x00\x00\x00", b""),
    "BIT_BINARY_EXT unused bits": (b"M\x00\x00\x00\x01\x03\xff", BitString(b"\xe0", 3)),
    "STRING_EXT empty": (b"k\x00\x00", []),
    "LIST_EXT empty": (b"l\x00\x00\x00\x00j", []),
    "LIST_EXT of a tail alone": (b"l\x00\x00\x00\x00a\x05", 5),
    "a tail that is a list": (b"l\x00\x00\x00\x01a\x01l\x00\x00\x00\x01a\x02j", [1, 2]),
    "a tail that is a string": (b"l\x00\x00\x00\x01a\x01k\x00\x02bc", [1, 98, 99]),
    "an improper list": (b"l\x00\x00\x00\x01a\x01a\x02", ImproperList([1], 2)),
    "LARGE_TUPLE_EXT": (b"i\x00\x00\x00\x01a\x01", (1,)),
    "LARGE_TUPLE_EXT empty": (b"i\x00\x00\x00\x00", ()),
    "PID_EXT": (p := b"g" + NODE + bytes(9), Pid(p)),
    "NEW_PID_EXT": (p := b"X" + NODE + bytes(12), Pid(p)),
    "PORT_EXT": (p := b"f" + NODE + bytes(5), Port(p)),
    "NEW_PORT_EXT": (p := b"Y" + NODE + bytes(8), Port(p)),
    "V4_PORT_EXT": (p := b"x" + NODE + bytes(12), Port(p)),
    "REFERENCE_EXT": (p := b"e" + NODE + bytes(5), Reference(p)),
    "NEW_REFERENCE_EXT": (p := b"r\x00\x03" + NODE + bytes(13), Reference(p)),
    "NEWER_REFERENCE_EXT": (p := b"Z\x00\x05" + NODE + bytes(24), Reference(p)),
    "a node's name in Latin-1": (p := b"gd\x00\x01\xe9" + bytes(9), Pid(p)),
    # {a, #r:pt{x = 7, y = 2}, b} as OTP 29 writes it.
    "a native record": (
        bytes.fromhex("68037701614300000002007701727702707477017877017961076102770162"),
        (Atom("a"), NativeRecord(0, Atom("r"), Atom("pt"), (Atom("x"), Atom("y")), (7, 2)),
         Atom("b")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OLD_AND_NEW)
def test_each_tag(name):
    data, value = OLD_AND_NEW[name]
    assert decode(V + data) == value
    assert type(decode(V + data)) is type(value)
    assert decode(encode(value)) == value


def test_what_is_echoed_keeps_its_bytes():
    for data, value in OLD_AND_NEW.values():
        if type(value) in {Pid, Port, Reference}:
            assert encode(decode(V + data)) == V + data
            assert encode((decode(V + data),)) == V + b"h\x01" + data
    record = OLD_AND_NEW["a native record"][0]
    assert encode(decode(V + record)) == V + record


def test_a_local_term_is_the_whole_term():
    data = V + bytes.fromhex("79d70477d56801770161")
    assert decode(data) == LocalTerm(data[1:])
    assert encode(decode(data)) == data
    with pytest.raises(EtfError, match="unknown tag 121"):
        decode(V + b"h\x01" + data[1:])
    with pytest.raises(EtfError, match="whole term"):
        encode((LocalTerm(data[1:]),))


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_what_bytes_may_come_in(make):
    assert decode(make(encode([1, b"x"]))) == [1, b"x"]


@given(terms)
def test_any_term_comes_back(term):
    again = decode(encode(term))
    assert again == term
    assert repr(again) == repr(term)


@given(terms)
def test_deep_and_shallow_reading_agree(term):
    data = encode(term)
    # With so low a limit nothing is read or written by recursion.
    deep = Limits(max_depth=32)
    assert repr(decode(data, limits=deep)) == repr(decode(data))
    assert encode(term, limits=deep) == data


@given(terms, st.integers(1, 9))
def test_compressed_terms(term, level):
    data = encode(term)[1:]
    packed = V + b"P" + struct.pack(">I", len(data)) + zlib.compress(data, level)
    assert decode(packed) == term
    for cut in range(len(packed)):
        with pytest.raises(EtfError):
            decode(packed[:cut])
    with pytest.raises(EtfError, match="bytes follow"):
        decode(packed + b"x")


@given(terms)
def test_a_term_that_ends_too_early_or_too_late_is_an_error_at_its_end(term):
    data = encode(term)
    for cut in range(len(data)):
        with pytest.raises(EtfError) as caught:
            decode(data[:cut])
        assert 0 <= caught.value.offset <= cut
    with pytest.raises(EtfError, match="bytes follow the term") as caught:
        decode(data + b"j")
    assert caught.value.offset == len(data)


@pytest.mark.parametrize("shape", ["list", "tuple", "tail", "map", "mixed"])
@pytest.mark.parametrize("depth", [31, 32, 33, 100, 20_000])
def test_deep_terms_come_back_byte_for_byte(shape, depth):
    one = {
        "list": (b"l\x00\x00\x00\x01", b"j"),
        "tuple": (b"h\x01", b""),
        "tail": (b"l\x00\x00\x00\x01a\x01h\x01", b""),
        "map": (b"t\x00\x00\x00\x01a\x07", b""),
        "mixed": (b"h\x02jl\x00\x00\x00\x01", b"j"),
    }[shape]
    # Two of these are two containers each.
    depth //= 2 if shape in {"tail", "mixed"} else 1
    data = V + one[0] * depth + b"j" + one[1] * depth
    assert encode(decode(data)) == data


def test_a_long_list_of_tails_is_one_list():
    n = 20_000
    assert decode(V + b"l\x00\x00\x00\x01a\x01" * n + b"j") == [1] * n


def test_depth_is_bounded_exactly():
    for depth, limit in ((100, 100), (10, 10), (32_000, 32_000)):
        data = V + b"h\x01" * depth + b"j"
        decode(data, limits=Limits(max_depth=limit))
        with pytest.raises(EtfError, match=f"nested more than {limit - 1} deep"):
            decode(data, limits=Limits(max_depth=limit - 1))
    with pytest.raises(EtfError, match="nested more than 32000 deep"):
        decode(V + b"h\x01" * 32_001 + b"j")


def test_terms_size_and_inflation_are_bounded():
    data = V + b"l\x00\x00\x00\x64" + b"j" * 101
    assert len(decode(data, limits=Limits(max_terms=101))) == 100
    with pytest.raises(EtfError, match="more than 100 terms"):
        decode(data, limits=Limits(max_terms=100))
    with pytest.raises(EtfError, match="more than 3 terms"):
        decode(V + b"k\x00\x04abcd", limits=Limits(max_terms=3))
    with pytest.raises(EtfError, match="more than 50"):
        decode(data, limits=Limits(max_size=50))
    bomb = V + b"P" + struct.pack(">I", 1 << 30) + zlib.compress(bytes(1000))
    with pytest.raises(EtfError, match="says 1073741824 bytes"):
        decode(bomb)
    lie = V + b"P" + struct.pack(">I", 10) + zlib.compress(encode(bytes(1 << 20))[1:])
    with pytest.raises(EtfError, match="not the 10 bytes"):
        decode(lie)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "begins with the version byte"),
        (b"\x82a\x01", "begins with the version byte"),
        (V, "begins with the version byte"),
        (V + b"\x00", "unknown tag 0"),
        (V + b"R\x00", "unknown tag 82"),
        (V + b"P\x00\x00\x00\x01garbage", "damaged"),
        (V + b"F\x7f\xf0" + bytes(6), "infinite"),
        (V + b"F\x7f\xf8" + bytes(6), "infinite"),
        (V + b"c" + b"inf".ljust(31, b"\0"), "does not hold a number"),
        (V + b"c" + b"1e999".ljust(31, b"\0"), "infinite"),
        (V + b"w\x01\xff", "not valid UTF-8"),
        (V + b"v\x01\x00" + b"a" * 256, "more than 255 characters"),
        (V + b"t\x00\x00\x00\x02a\x01ja\x01j", "same key twice"),
        (V + b"t\x00\x00\x00\x02m\x00\x00\x00\x00jm\x00\x00\x00\x00j", "same key twice"),
        (V + b"t\x00\x00\x00\x02jjjj", "same key twice"),
        (V + b"M\x00\x00\x00\x01\x09x", "has not 9 bits"),
        (V + b"M\x00\x00\x00\x01\x00x", "has not 0 bits"),
        (V + b"M\x00\x00\x00\x00\x03", "has not 3 bits"),
        (V + b"ga\x01" + bytes(9), "an atom is expected"),
        (V + b"Z\x00\x06" + NODE + bytes(28), "1 to 5 words"),
        (V + b"Z\x00\x00" + NODE + bytes(4), "1 to 5 words"),
        (V + b"p\x00\x00\x00\x05\x00", "has not 5 bytes"),
        (V + b"q" + NODE + NODE + b"j", "arity"),
        (V + b"C\xff\xff\xff\xff\x00", "terms|too early"),
    ],
)
def test_bad_bytes_say_what_is_wrong(data, reason):
    with pytest.raises(EtfError, match=reason):
        decode(data)


def test_a_caller_deep_in_its_own_stack():
    def deep(levels):
        return deep(levels - 1) if levels else decode(encode([[[[b"x"]]]]))

    frames = 0
    frame = sys._getframe()
    while frame:
        frames, frame = frames + 1, frame.f_back
    for spare in range(8, 40):
        try:
            assert deep(sys.getrecursionlimit() - frames - spare) == [[[[b"x"]]]]
        except RecursionError:
            # Even the call itself had no room.
            assert spare < 20
