"""Maps: when a dict can hold one without loss, and when it takes a `Map`."""

from collections.abc import Iterator
from itertools import groupby

from erlang_port.etf.encode_deep import has_twins
from erlang_port.etf.errors import EtfError
from erlang_port.etf.limits import DEFAULT
from erlang_port.etf.terms import Atom, Map, NativeRecord, Term

#: Keys of these types hash fast, evenly and without recursion.
_PLAIN = {bytes, Atom}
#: Types that are hashed with what is in them.
_NESTED = {tuple, NativeRecord}
#: How deep a key of a dict may be nested. Hashing recurses in C, without a check.
_MAX_KEY_DEPTH = 64
#: How many keys of one dict may have one hash. An int's hash is its value modulo 2**61 - 1, so that
#: keys can be chosen which make a dict quadratic.
_MAX_SAME_HASH = 32

_TWICE = "a map has the same key twice"


def build_map(items: list[Term], position: int) -> dict[Term, Term] | Map:
    """The map of keys and values in turn, which end at this position of the input.

    Raises:
        EtfError: A key comes twice.
    """
    keys = items[::2]
    values = items[1::2]
    if set(map(type, keys)) <= _PLAIN:
        result = dict(zip(keys, values, strict=True))
        if len(result) != len(keys):
            raise EtfError(_TWICE, position)
        return result
    if _hashable(keys):
        result = dict(zip(keys, values, strict=True))
        if len(result) == len(keys):
            return result
    if has_twins(keys, DEFAULT):
        raise EtfError(_TWICE, position)
    return Map(tuple(zip(keys, values, strict=True)))


def _hashable(keys: list[Term]) -> bool:
    if any(type(key) in _NESTED and _deep(key) for key in keys):
        return False
    try:
        hashes = sorted(map(hash, keys))
    except TypeError:
        return False
    if len(hashes) <= _MAX_SAME_HASH:
        return True
    return all(sum(1 for _ in same) <= _MAX_SAME_HASH for _, same in groupby(hashes))


def _deep(key: tuple[Term, ...] | NativeRecord) -> bool:
    level = [_parts(key)]
    while level:
        for item in level[-1]:
            if type(item) in _NESTED:
                level.append(_parts(item))
                break
        else:
            level.pop()
        if len(level) > _MAX_KEY_DEPTH:
            return True
    return False


def _parts(key: tuple[Term, ...] | NativeRecord) -> Iterator[Term]:
    return iter(key.values if isinstance(key, NativeRecord) else key)
