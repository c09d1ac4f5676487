"""Terms for Hypothesis."""

from hypothesis import strategies as st

from erlang_port.etf import Atom, BitString, ImproperList, Reference

atoms = st.text(max_size=20).map(Atom).filter(lambda a: a not in {"true", "false", "undefined"})

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(1 << 3000), 1 << 3000)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.binary(max_size=300)
    | atoms
    | st.builds(BitString, st.binary(min_size=1, max_size=9), st.integers(1, 7))
    | st.just(Reference(b"Z\x00\x01w\x01n" + bytes(8)))
)

keys = st.binary(max_size=9) | atoms | st.integers(2, 1 << 70) | st.tuples(st.binary(max_size=9))

terms = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.lists(inner, max_size=6).map(tuple)
        | st.dictionaries(keys, inner, max_size=6)
        | st.builds(ImproperList, st.lists(inner, min_size=1, max_size=3), leaves)
    ),
    max_leaves=40,
)
