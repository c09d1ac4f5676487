import pytest
from hypothesis import given

from erlang_port.etf import EtfError, Limits, decode, encode
from tests.erlang_port.etf.strategies import terms

V = b"\x83"


@given(terms)
def test_deep_and_shallow_reading_agree(term):
    data = encode(term)
    # With so low a limit nothing is read or written by recursion.
    deep = Limits(max_depth=32)
    assert repr(decode(data, limits=deep)) == repr(decode(data))
    assert encode(term, limits=deep) == data


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
