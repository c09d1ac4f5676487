"""erlang_py 2.0.7 as a second oracle, where its terms say as much as ours."""

import erlang
from hypothesis import given
from hypothesis import strategies as st

from erlang_port.etf import Atom, decode, encode

names = st.text(min_size=1, max_size=20).filter(
    lambda name: name not in {"true", "false", "undefined"}
)
shared = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.binary(max_size=40) | names.map(Atom),
    lambda inner: st.lists(inner, max_size=5) | st.lists(inner, max_size=5).map(tuple),
    max_leaves=20,
)  # fmt: skip


def theirs(term):
    if isinstance(term, Atom):
        return erlang.OtpErlangAtom(str(term))
    if isinstance(term, bytes):
        return erlang.OtpErlangBinary(term)
    if isinstance(term, list):
        return erlang.OtpErlangList([theirs(item) for item in term])
    if isinstance(term, tuple):
        return tuple(map(theirs, term))
    return term


@given(shared)
def test_what_erlang_py_writes_is_read_alike(term):
    assert decode(erlang.term_to_binary(theirs(term))) == term


@given(shared)
def test_what_is_written_is_read_alike_by_erlang_py(term):
    assert erlang.term_to_binary(erlang.binary_to_term(encode(term))) == erlang.term_to_binary(
        theirs(term)
    )
