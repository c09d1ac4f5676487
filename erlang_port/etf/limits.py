"""What a term may cost: no input takes more than some seconds and some hundred megabytes."""

from typing import NamedTuple


class Limits(NamedTuple):
    """Bounds that both directions of the codec keep; beyond one it raises `EtfError`."""

    #: Bytes of one encoded term, compressed or not. Default 64 MiB.
    max_size: int = 64 * 1024 * 1024
    #: Bytes that a compressed term may inflate to. Default 64 MiB.
    max_decompressed: int = 64 * 1024 * 1024
    #: Containers inside one another. Default 32,000: the term that a stanza or a batch makes nests
    #: less than 100 deep.
    max_depth: int = 32_000
    #: Terms in all, each element of a list, tuple or map counted, and each character of a
    #: STRING_EXT. Default 1,000,000: a million empty lists are 72 MB in Python. `encode` counts
    #: what it writes instead, and may let up to twice as many pass.
    max_terms: int = 1_000_000


#: The limits where none are given.
DEFAULT = Limits()
