import pytest

from erlang_port.etf import Atom, Map, decode, encode

PRIME = (1 << 61) - 1


@pytest.mark.parametrize(
    "pairs",
    [
        ((1, b"a"), (1.0, b"b"), (True, b"c")),
        (((1,), b"a"), ((1.0,), b"b")),
        ((0.0, b"a"), (-0.0, b"b")),
        (([1], b"a"), (b"k", b"b")),
        (({}, b"a"), (Map(((1, 2), (1.0, 3))), b"b")),
    ],
)
def test_keys_that_a_dict_would_lose_make_a_map(pairs):
    value = decode(encode(Map(pairs)))
    assert type(value) is Map
    assert repr(value.pairs) == repr(pairs)


@pytest.mark.parametrize(
    "value", [{b"a": 1, Atom("b"): 2}, {1: 2, 2.5: 3}, {(1, b"x"): 1}, {None: 1, True: 2}]
)
def test_other_keys_make_a_dict(value):
    again = decode(encode(value))
    assert type(again) is dict
    assert repr(again) == repr(value)


def test_keys_nested_too_deeply_to_be_hashed_make_a_map():
    key = b"x"
    for _ in range(20_000):
        key = (key,)
    value = decode(encode(Map(((key, 1),))))
    assert type(value) is Map
    assert encode(value) == encode(Map(((key, 1),)))


def test_keys_chosen_to_collide_make_a_map_and_do_not_take_long():
    pairs = tuple((n * PRIME, b"v") for n in range(100_000))
    assert type(decode(encode(Map(pairs)))) is Map
