"""Maps: when a dict can hold one without loss, and when it takes a `Map`."""

from collections.abc import Iterator

from erlang_port.etf.encode_deep import has_twins
from erlang_port.etf.errors import EtfError
from erlang_port.etf.limits import Limits
from erlang_port.etf.terms import Atom, Map, NativeRecord, Term

#: Keys of these types hash fast, evenly and without recursion.
_PLAIN = {bytes, Atom}
#: Types that are hashed with what is in them.
_NESTED = {tuple, NativeRecord}
#: How deep a key of a dict may be nested. Hashing recurses in C, without a check.
_MAX_KEY_DEPTH = 64
#: How many keys of a dict may be chosen so that each meets all others. An int's hash is its value
#: modulo 2**61 - 1, so that keys can be chosen which make a dict quadratic.
_FEW = 256
#: How many places of its table a dict may try in vain for a key, on average. For random keys it is
#: under 2; 13 where all keys have the same lower bits.
_MAX_TRIES = 16
_WORD = (1 << 64) - 1

#: Keys were read from an input within its limits.
_UNLIMITED = Limits(max_size=1 << 62, max_terms=1 << 62)

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
    if has_twins(keys, _UNLIMITED):
        raise EtfError(_TWICE, position)
    return Map(tuple(zip(keys, values, strict=True)))


def _hashable(keys: list[Term]) -> bool:
    if any(type(key) in _NESTED and _deep(key) for key in keys):
        return False
    try:
        hashes = list(map(hash, keys))
    except TypeError:
        return False
    return len(hashes) <= _FEW or not _crowded(hashes)


def _crowded(hashes: list[int]) -> bool:
    # Fills tables of all sizes that a dict of these keys has while it grows, as CPython does
    # (Objects/dictobject.c: two thirds full at most, the upper bits mixed in five at a time).
    size = 2 * _FEW
    while True:
        taken = bytearray(size)
        tries = 0
        room = size * 2 // 3
        for value in hashes[:room]:
            place = value & size - 1
            rest = value & _WORD
            while taken[place]:
                rest >>= 5
                place = place * 5 + rest + 1 & size - 1
                tries += 1
            if tries > _MAX_TRIES * size:
                return True
            taken[place] = 1
        if room >= len(hashes):
            return False
        size *= 2


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
