import struct
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlang_port.etf import (
    Atom,
    EtfError,
    ImproperList,
    Limits,
    LocalTerm,
    NativeRecord,
    decode,
    encode,
)
from tests.erlang_port.etf.strategies import terms

V = b"\x83"
NODE = b"w\x01n"

# Tags that only older releases write, and those of the newest.
OLD_AND_NEW = {
    "STRING_EXT empty": (b"k\x00\x00", []),
    "LIST_EXT empty": (b"l\x00\x00\x00\x00j", []),
    "LIST_EXT of a tail alone": (b"l\x00\x00\x00\x00a\x05", 5),
    "a tail that is a list": (b"l\x00\x00\x00\x01a\x01l\x00\x00\x00\x01a\x02j", [1, 2]),
    "a tail that is a string": (b"l\x00\x00\x00\x01a\x01k\x00\x02bc", [1, 98, 99]),
    "a tail that is an improper list": (
        b"l\x00\x00\x00\x01a\x01l\x00\x00\x00\x02a\x02a\x03a\x04",
        ImproperList([1, 2, 3], 4),
    ),
    "an empty list with a tail that is an improper list": (
        b"l\x00\x00\x00\x00l\x00\x00\x00\x01a\x02a\x04",
        ImproperList([2], 4),
    ),
    "an improper list": (b"l\x00\x00\x00\x01a\x01a\x02", ImproperList([1], 2)),
    "LARGE_TUPLE_EXT": (b"i\x00\x00\x00\x01a\x01", (1,)),
    "LARGE_TUPLE_EXT empty": (b"i\x00\x00\x00\x00", ()),
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
    # Read by the loop for what is nested deeply.
    assert repr(decode(V + data, limits=Limits(max_depth=32))) == repr(value)
    assert decode(encode(value)) == value


def test_a_local_term_is_the_whole_term():
    data = V + bytes.fromhex("79d70477d56801770161")
    assert decode(data) == LocalTerm(data[1:])
    assert encode(decode(data)) == data
    with pytest.raises(EtfError, match="unknown tag 121"):
        decode(V + b"h\x01" + data[1:])
    with pytest.raises(EtfError, match="whole term"):
        encode((LocalTerm(data[1:]),))


def test_a_compressed_local_term_is_sent_back_as_it_was_before():
    data = bytes.fromhex("79d70477d56801770161")
    packed = V + b"P" + struct.pack(">I", len(data)) + zlib.compress(data)
    assert decode(packed) == LocalTerm(data)
    assert encode(decode(packed)) == V + data


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_local_term_without_a_term_is_an_error(cut):
    with pytest.raises(EtfError, match="ends too early"):
        decode(V + b"yhash"[:cut])


def test_pairs_of_binaries():
    data = V + b"l\x00\x00\x00\x02" + (b"h\x02m\0\0\0\x01km\0\0\0\x02vw" * 2) + b"j"
    assert decode(data) == [(b"k", b"vw")] * 2
    for cut in range(len(data)):
        with pytest.raises(EtfError) as caught:
            decode(data[:cut])
        assert 0 <= caught.value.offset <= cut
    # What begins as one does, and is none.
    assert decode(V + b"h\x02m\0\0\0\x01ka\x07") == (b"k", 7)
    assert decode(V + b"h\x03m\0\0\0\x01km\0\0\0\0j") == (b"k", b"", [])
    for wrong in (b"h\x02m\xff\xff\xff\xffkm", b"h\x02m\0\0\0\x01km\xff\xff\xff\xffv"):
        with pytest.raises(EtfError, match="ends too early"):
            decode(V + wrong)
        with pytest.raises(EtfError, match="ends too early"):
            decode(V + b"h\x02" + wrong + b"j")


@pytest.mark.parametrize("value", [5, "text", None])
def test_what_is_no_bytes_is_no_input(value):
    with pytest.raises(TypeError):
        decode(value)


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_what_bytes_may_come_in(make):
    assert decode(make(encode([1, b"x"]))) == [1, b"x"]


@given(terms)
def test_any_term_comes_back(term):
    again = decode(encode(term))
    assert again == term
    assert repr(again) == repr(term)


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


def test_terms_size_and_inflation_are_bounded():
    data = V + b"l\x00\x00\x00\x64" + b"j" * 101
    assert len(decode(data, limits=Limits(max_terms=101))) == 100
    with pytest.raises(EtfError, match="more than 100 terms"):
        decode(data, limits=Limits(max_terms=100))
    for inner in (b"h\x04jjjj", b"i\0\0\0\x04jjjj", b"t\0\0\0\x02a\1ja\2j"):
        with pytest.raises(EtfError, match="more than 3 terms"):
            decode(V + inner, limits=Limits(max_terms=3))
    for tail in (b"l\0\0\0\x04jjjjj", b"k\0\x04abcd"):
        with pytest.raises(EtfError, match="more than 3 terms"):
            decode(V + b"l\0\0\0\x01j" + tail, limits=Limits(max_terms=3))
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
        (V + b"t\x00\x00\x00\x02a\x01ja\x01j", "same key twice"),
        (V + b"t\x00\x00\x00\x02m\x00\x00\x00\x00jm\x00\x00\x00\x00j", "same key twice"),
        (V + b"t\x00\x00\x00\x02jjjj", "same key twice"),
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
