"""What the node gets of this runtime's values.

Without a node: that it takes them is shown by tests/e2e/test_servers.py and test_stampede.py.
"""

import math
from typing import NamedTuple

import pytest

from erlang_port.etf import Atom, BitString, EtfError, ImproperList, Map, Pid, decode
from erlang_port.otp.outward import (
    MAX_DEPTH,
    MAX_REPR,
    MAX_VALUES,
    encode_outward,
    outward,
)
from erlang_port.otp.process import Reference
from erlang_port.otp.runtime import Runtime
from tests.erlang_port.otp.port_stand_in import pid


class Point(NamedTuple):
    x: object
    y: object


class Plain:
    def __repr__(self):
        return "a plain object"


class Unshowable:
    def __repr__(self):
        raise ValueError("on purpose")


@pytest.fixture
async def exposed():
    return Runtime.here().idle("exposed")


@pytest.fixture
async def other():
    return Runtime.here().idle("other")


@pytest.fixture
def proxy(exposed):
    return {exposed: pid(7)}.get


async def test_a_process_with_a_proxy_is_its_pid(exposed, proxy):
    assert isinstance(outward(exposed, proxy), Pid)
    assert decode(encode_outward(exposed, proxy)) == pid(7)


async def test_a_process_without_one_is_told_by_number_and_label(other, proxy):
    assert decode(encode_outward(other, proxy)) == ("python_process", other.id, b"other")
    other.label = "\ud800"
    assert decode(encode_outward(other, proxy)) == ("python_process", other.id, b"?")


async def test_references_are_opaque(proxy):
    assert decode(encode_outward(Reference(), proxy)) == "python_reference"


async def test_containers_keep_their_kind(exposed, other, proxy):
    gone = ("python_process", other.id, b"other")
    value = [
        (exposed, [other, ()]),
        {b"who": exposed, other: [Reference()], (1, exposed): None},
        ImproperList([exposed, 1], other),
        Map(((1, exposed), (1.0, other), ([exposed], 2))),
        Point(exposed, 1.5),
        BitString(b"\x80", 1),
        True,
    ]
    assert decode(encode_outward(value, proxy)) == [
        (pid(7), [gone, ()]),
        {b"who": pid(7), gone: [Atom("python_reference")], (1, pid(7)): None},
        ImproperList([pid(7), 1], gone),
        Map(((1, pid(7)), (1.0, gone), ([pid(7)], 2))),
        (pid(7), 1.5),
        BitString(b"\x80", 1),
        True,
    ]


async def test_what_is_a_term_is_not_looked_at(proxy):
    deep = 1
    for _ in range(4 * MAX_DEPTH):
        deep = [deep]
    assert decode(encode_outward(deep, proxy)) == deep


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Plain(), b"a plain object"),
        (Unshowable(), b"<Unshowable instance at "),
        ({1, 2}, b"{1, 2}"),
        (math.inf, b"inf"),
        (Atom("x" * 256), b"Atom("),
        ("\ud800", b"'\\ud800'"),
        (ImproperList([], 1), b"ImproperList([], 1)"),
    ],
)
async def test_what_erlang_has_no_term_for_is_shown(proxy, value, shown):
    assert decode(encode_outward(value, proxy)).startswith(shown)
    # And beside it everything is as it was.
    (tag, got) = decode(encode_outward((Atom("got"), value), proxy))
    assert tag == "got"
    assert got.startswith(shown)


async def test_what_is_shown_has_a_bound(proxy):
    class Long:
        def __repr__(self):
            return "x" * 10**6

    assert len(decode(encode_outward(Long(), proxy))) == MAX_REPR
    # Python itself refuses to write this one.
    huge = [{10**10_000}]
    assert isinstance(decode(encode_outward(huge, proxy))[0], bytes)


async def test_nesting_beyond_the_bound_is_shown(exposed, proxy):
    value = exposed
    for _ in range(MAX_DEPTH + 1):
        value = [value]
    inner = decode(encode_outward(value, proxy))
    for _ in range(MAX_DEPTH):
        [inner] = inner
    assert inner == [repr(exposed).encode()]
    # One less, and it is converted.
    inner = decode(encode_outward(value[0], proxy))
    for _ in range(MAX_DEPTH):
        [inner] = inner
    assert inner == pid(7)


async def test_keys_that_become_one_are_shown(proxy):
    twins = {Reference(): 1, Reference(): 2}
    [shown] = decode(encode_outward([twins], proxy))
    assert shown.startswith(b"{<erlang_port.otp.process.Reference object")
    # In Erlang these two are one key.
    assert decode(encode_outward({"a": 1, b"a": 2}, proxy)) == b"{'a': 1, b'a': 2}"


async def test_a_value_without_an_end(exposed, proxy):
    circle = [exposed]
    circle += [circle, circle]
    with pytest.raises(EtfError, match=f"more than {MAX_VALUES} values"):
        outward(circle, proxy)
    assert decode(encode_outward(circle, proxy)).startswith(b"[<exposed 1>, [<exposed 1>, [")
    twice = [exposed]
    for _ in range(MAX_DEPTH):
        twice = [twice, twice]
    assert isinstance(decode(encode_outward(twice, proxy)), bytes)
