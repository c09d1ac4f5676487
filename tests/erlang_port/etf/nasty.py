"""Bytes that are out to cost a decoder more than they should.

    nasty.py NAME [MEMORY]

decodes and encodes one of them within so many MB (700) and 20 s of the processor, and prints
`term`, or why it is none.
"""

import resource
import struct
import sys
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from erlang_port.etf import EtfError, decode, encode

#: In MB.
MEMORY = 700
SECONDS = 20


def big(number: int) -> bytes:
    return struct.pack(">I", number)


def listed(count: int, item: bytes) -> bytes:
    return b"l" + big(count) + item * count + b"j"


def each(count: int, item: Callable[[int], bytes]) -> bytes:
    return b"l" + big(count) + b"".join(map(item, range(count))) + b"j"


def mapped(keys: Iterable[bytes]) -> bytes:
    keys = list(keys)
    return b"t" + big(len(keys)) + b"".join(key + b"j" for key in keys)


def packed(size: int, term: bytes) -> bytes:
    return b"P" + big(size) + zlib.compress(term)


#: What becomes of a term of each kind: `term`, or what the error says.
NASTY: dict[str, tuple[str, Callable[[], bytes]]] = {
    "8 MiB of []": ("more than 1000000 terms", lambda: listed(1 << 23, b"j")),
    "a million []": ("term", lambda: listed(999_000, b"j")),
    "a million empty maps": ("term", lambda: listed(999_000, b"t" + big(0))),
    "a million floats": ("term", lambda: listed(999_000, b"F" + bytes(8))),
    "a million references": ("term", lambda: listed(999_000, b"Z\0\5w\1n" + bytes(24))),
    "a million bitstrings": ("term", lambda: listed(999_000, b"M\0\0\0\1\1\x80")),
    "one-tuples": ("term", lambda: listed(499_000, b"h\1j")),
    "maps of one key": ("term", lambda: listed(333_000, b"t" + big(1) + b"a\1j")),
    "records": ("term", lambda: listed(333_000, b"C\0\0\0\0\0w\1mw\1n")),
    "maps that no dict can hold": (
        "term",
        lambda: listed(190_000, b"t" + big(2) + b"a\1jF\x3f\xf0" + bytes(6) + b"j"),
    ),
    "improper lists": ("term", lambda: listed(333_000, b"l" + big(1) + b"a\1a\2")),
    "10 MB of nested lists": ("nested more than 32000", lambda: (b"l" + big(1)) * 2_000_000),
    "10 MB of nested tuples": ("nested more than 32000", lambda: b"h\1" * 5_000_000),
    "10 MB of list tails": ("more than 1000000", lambda: (b"l" + big(1) + b"a\1") * 1_500_000),
    "list heads of 4 G": ("too early|terms", lambda: b"l\xff\xff\xff\xff" * 30),
    "a tuple of 4 G": ("too early|terms", lambda: b"i\xff\xff\xff\xff"),
    "a list of 4 G": ("too early|terms", lambda: b"l\xff\xff\xff\xff" + b"j" * 100),
    "a map of 4 G": ("too early|terms", lambda: b"t\xff\xff\xff\xff" + b"j" * 100),
    "a record of 4 G": ("too early|terms", lambda: b"C\xff\xff\xff\xff" + b"\0" * 100),
    "a binary of 4 G": ("too early", lambda: b"m\xff\xff\xff\xff"),
    "an integer of 60 MB": ("term", lambda: b"o" + big(60 << 20) + b"\0" + b"\xff" * (60 << 20)),
    "64 MiB in one binary": ("term", lambda: b"m" + big((1 << 26) - 6) + bytes((1 << 26) - 6)),
    "more than 64 MiB": ("bytes, more than", lambda: bytes(1 << 26)),
    "64 MiB of binaries": ("term", lambda: listed(63, b"m" + big(1 << 20) + bytes(1 << 20))),
    "60 MB of integers": ("term", lambda: each(950_000, lambda n: b"n\x3c\0%060d" % n)),
    "60 MB of atoms with 4 bytes a character": (
        "term",
        lambda: each(240_000, lambda n: b"v\1\1" + "👋".encode() + b"%0253x" % n),
    ),
    "distinct atoms": ("term", lambda: each(200_000, lambda n: b"w\x08%08x" % n)),
    "strings": ("more than 1000000 terms", lambda: listed(1000, b"k\xff\xff" + bytes(65535))),
    "colliding keys": (
        "term",
        lambda: mapped(
            b"n\x0a\0" + (n * ((1 << 61) - 1)).to_bytes(10, "little") for n in range(90_000)
        ),
    ),
    "lists as keys": (
        "term",
        lambda: mapped(b"l" + big(1) + b"n\4\0" + big(n) + b"j" for n in range(300_000)),
    ),
    "equal maps as keys": (
        "same key twice",
        lambda: mapped([b"t" + big(2) + b"a\1jjj"] * 130_000),
    ),
    "maps as keys of maps": (
        "term",
        lambda: (b"t" + big(2)) * 15_000 + b"j" + b"ja\1j" * 15_000,
    ),
    "map keys 30,000 deep": ("term", lambda: (b"t" + big(1)) * 30_000 + b"j" + b"j" * 30_000),
    "maps with list keys, nested": (
        "term",
        lambda: (b"t" + big(1) + b"l" + big(1)) * 9000 + b"j" + b"jj" * 9000,
    ),
    "records as keys, nested": (
        "term",
        lambda: (b"t" + big(1) + b"C\0\0\0\1\0w\1mw\1nw\1f") * 9000 + b"j" + b"j" * 9000,
    ),
    "a bomb": ("unknown tag 0", lambda: packed(1 << 26, bytes(1 << 26))),
    "a bomb of []": (
        "more than 1000000 terms",
        lambda: packed((1 << 26) - 1, b"l" + big((1 << 26) - 7) + b"j" * ((1 << 26) - 6)),
    ),
    "a bomb that says 1 KB": ("not the 1000 bytes", lambda: packed(1000, bytes(1 << 28))),
    "a bomb that says 4 GB": ("more than", lambda: packed((1 << 32) - 1, bytes(1 << 20))),
}


def main() -> None:
    data = b"\x83" + NASTY[sys.argv[1]][1]()
    before = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = before + int((*sys.argv, MEMORY)[2]) * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    resource.setrlimit(resource.RLIMIT_CPU, (used + SECONDS, used + SECONDS))
    try:
        encode(decode(data))
    except EtfError as error:
        print(error.reason)
    else:
        print("term")


if __name__ == "__main__":
    main()
