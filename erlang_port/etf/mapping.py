"""Maps: when a dict can hold one without loss, and when it takes a `Map`."""

from collections.abc import Iterator
from itertools import groupby

from erlang_port.etf.errors import EtfError
from erlang_port.etf.limits import Limits
from erlang_port.etf.terms import Atom, Map, Term

#: Keys of these types hash fast, evenly and without recursion.
_PLAIN = {bytes, Atom}
#: How deep a tuple may be nested in a key of a dict. Hashing recurses in C, without a check.
_MAX_KEY_DEPTH = 64
#: How many keys of one dict may have one hash. An int's hash is its value modulo 2**61 - 1, so that
#: keys can be chosen which make a dict quadratic.
_MAX_SAME_HASH = 32
#: Keys beyond this are not compared.
_COMPARED = Limits(max_depth=8)


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
            raise EtfError("a map has the same key twice", position)
        return result
    if _hashable(keys):
        result = dict(zip(keys, values, strict=True))
        if len(result) == len(keys):
            return result
    _refuse_twins(keys, position)
    return Map(tuple(zip(keys, values, strict=True)))


def _hashable(keys: list[Term]) -> bool:
    if any(type(key) is tuple and _deep(key) for key in keys):
        return False
    try:
        hashes = sorted(map(hash, keys))
    except (TypeError, RecursionError):
        return False
    if len(hashes) <= _MAX_SAME_HASH:
        return True
    return all(sum(1 for _ in same) <= _MAX_SAME_HASH for _, same in groupby(hashes))


def _deep(key: tuple[Term, ...]) -> bool:
    level: list[Iterator[Term]] = [iter(key)]
    while level:
        for item in level[-1]:
            if type(item) is tuple:
                level.append(iter(item))
                break
        else:
            level.pop()
        if len(level) > _MAX_KEY_DEPTH:
            return True
    return False


def _refuse_twins(keys: list[Term], position: int) -> None:
    # Erlang knows no map with one key twice. What is written alike is the same key. A key that is
    # nested deeper is not looked at: maps as keys of maps would be written again at each level.
    from erlang_port.etf.encode import encode

    if len(keys) < 2:
        return
    written: set[bytes | int] = set()
    for number, key in enumerate(keys):
        try:
            written.add(encode(key, limits=_COMPARED))
        except EtfError:
            written.add(number)
    if len(written) != len(keys):
        raise EtfError("a map has the same key twice", position)
