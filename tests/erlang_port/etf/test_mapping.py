import random

import pytest

from erlang_port.etf import Atom, EtfError, Map, NativeRecord, decode, encode

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


@pytest.mark.parametrize(
    "keys",
    [
        list(range(1, 50_001)),
        list(range(0, 50_000 << 16, 1 << 16)),
        random.Random(1).sample(range(1 << 62), 50_000),
        [-(n << 48) for n in range(1, 5000)],
        [(n, b"x") for n in range(20_000)],
        [n + 0.5 for n in range(5000)],
    ],
    ids=["in turn", "in steps", "random", "negative", "tuples", "floats"],
)
def test_many_keys_that_nobody_chose_make_a_dict(keys):
    assert decode(encode(dict.fromkeys(keys, b"v"))) == dict.fromkeys(keys, b"v")


def test_keys_chosen_to_walk_through_a_dict_s_table_make_a_map():
    # The places that CPython tries one after the other when nothing is left of the hash: all taken,
    # and keys that begin in front of them.
    mask = (1 << 12) - 1
    taken, place = [], 1
    for _ in range(2000):
        taken.append(place)
        place = (5 * place + 1) & mask
    rng, seen, first, walkers = random.Random(1), set(taken), set(taken[:400]), set()
    while len(walkers) < 700:
        key = rng.choice(taken) | rng.getrandbits(20) << 12
        place, rest = key & mask, key
        while rest and place in seen:
            rest >>= 5
            place = (place * 5 + rest + 1) & mask
        if place in first and key not in seen:
            walkers.add(key)
    pairs = tuple((key, b"v") for key in (*taken, *walkers))
    value = decode(encode(Map(pairs)))
    assert type(value) is Map
    assert value.pairs == pairs


def test_keys_chosen_to_collide_make_a_map_and_do_not_take_long():
    pairs = tuple((n * PRIME, b"v") for n in range(100_000))
    assert type(decode(encode(Map(pairs)))) is Map


def test_a_record_with_a_deep_tuple_is_no_key_of_a_dict():
    deep = b"x"
    for _ in range(20_000):
        deep = (deep,)
    record = NativeRecord(0, Atom("m"), Atom("r"), (Atom("f"),), (deep,))
    shallow = NativeRecord(0, Atom("m"), Atom("r"), (Atom("f"),), ((1, (2,)),))
    for key in (record, (record,), (1, record)):
        value = decode(encode(Map(((key, 1),))))
        assert type(value) is Map
        assert encode(value) == encode(Map(((key, 1),)))
    assert decode(encode(Map((((shallow, 1), 2),)))) == {(shallow, 1): 2}


@pytest.mark.parametrize(
    "keys", [(b"a", b"a"), (1, 1), ((1, 2), (1, 2)), ([1], [1]), ({}, {}), (1.0, 1, True, 1.0)]
)
def test_a_key_that_comes_twice_is_an_error(keys):
    data = b"\x83t" + len(keys).to_bytes(4, "big") + b"".join(encode(k)[1:] + b"j" for k in keys)
    with pytest.raises(EtfError, match="same key twice"):
        decode(data)
