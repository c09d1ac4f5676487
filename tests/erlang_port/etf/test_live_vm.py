"""The codec beside a live Erlang VM: golden vectors, and random terms that the VM compares."""

import base64
import os
import random
import subprocess
from itertools import chain
from pathlib import Path

import pytest

from erlang_port.etf import (
    Atom,
    BitString,
    EtfError,
    ImproperList,
    Limits,
    LocalTerm,
    Map,
    NativeRecord,
    decode,
    encode,
)
from erlang_port.frames import FrameReader, frame
from tests.support.tools import require_tool

SCRIPT = Path(__file__).parent / "terms.escript"

#: The tag of a compressed term.
COMPRESSED = 80

VALUES = {
    "atom": Atom("hello"),
    "true": True,
    "undefined": None,
    "unicode_atom": Atom("žluťoučký"),
    "long_atom": Atom("é" * 255),
    "empty_atom": Atom(""),
    "latin1_atom": Atom("é"),
    "small": 255,
    "integer": -1,
    "big": 1 << 64,
    "negative_big": -(1 << 64),
    "large_big": 1 << 3000,
    "float": 1.5,
    "old_float": 1.5,
    "negative_zero": -0.0,
    "binary": b"bytes",
    "bits": BitString(b"\xa0", 3),
    "string": [97, 98, 99],
    "list": [Atom("a"), 300, [120]],
    "improper": ImproperList([1, 2], 3),
    "tuple": (Atom("a"), (Atom("b"),), ()),
    "large_tuple": tuple(range(1, 301)),
    "map": {Atom("a"): 1, b"b": [2]},
    "odd_map": Map(((1, Atom("a")), (1.0, Atom("b")), (True, Atom("c")))),
    "list_keys": Map((([1], Atom("a")), ({}, Atom("b")))),
    "compressed": [b"again"] * 1000,
    "native_record": (
        NativeRecord(0, Atom("a_module"), Atom("a_record"), (Atom("x"), Atom("y")), (7, [2])),
        Atom("b"),
    ),
}
ECHOED = {"pid", "port", "reference", "export", "fun"}
#: What a VM from this release on writes.
SINCE = {"local": 26, "local_compressed": 26, "native_record": 29}


def script(*arguments, **options):
    return subprocess.Popen(
        [require_tool("escript"), SCRIPT, *arguments], stdout=subprocess.PIPE, **options
    )


@pytest.fixture(scope="module")
def vectors():
    with script("golden") as process:
        return parsed(process.stdout.read().decode())


def parsed(text):
    """Vectors by name, the number of the OTP release first."""
    first, *lines = text.splitlines()
    vectors = {name: base64.b64decode(text) for name, text in map(str.split, lines)}
    absent = {name for name, since in SINCE.items() if int(first) < since}
    assert set(vectors) == (set(VALUES) | ECHOED | set(SINCE)) - absent
    return vectors


def check(vectors):
    for name in VALUES.keys() & vectors.keys():
        value = decode(vectors[name])
        assert value == VALUES[name], name
        assert type(value) is type(VALUES[name]), name
        if type(value) is not Map:
            # 1 and 1.0 are equal and are not the same.
            assert str(value) == str(VALUES[name])
        assert decode(encode(value)) == value


def test_golden_vectors(vectors):
    check(vectors)


@pytest.mark.parametrize("file", ["golden.txt", "golden_27.txt", "golden_29.txt"])
def test_committed_vectors(file):
    check(parsed((SCRIPT.parent / file).read_text()))


@pytest.mark.parametrize("name", sorted(ECHOED))
def test_what_only_its_node_can_read_is_echoed_byte_for_byte(vectors, name):
    value = decode(vectors[name])
    assert type(value).__name__.lower() == name
    assert encode(value) == vectors[name]
    assert encode([value, value]).count(vectors[name][1:]) == 2
    assert {value: 1}[decode(vectors[name])] == 1


def test_local_terms_are_echoed():
    vectors = parsed((SCRIPT.parent / "golden_29.txt").read_text())
    assert type(decode(vectors["local"])) is LocalTerm
    assert encode(decode(vectors["local"])) == vectors["local"]
    assert encode(decode(vectors["local_compressed"]))[:2] == b"\x83y"


def test_random_terms_come_back_as_they_went():
    seed = os.environ.get("SEED") or str(random.randrange(1 << 30))
    print(f"SEED={seed}")
    with script("check", seed, "6000", stdin=subprocess.PIPE) as vm:
        reader, payloads = FrameReader(1 << 26), []
        while True:
            while not payloads:
                data = os.read(vm.stdout.fileno(), 1 << 20)
                assert data, f"SEED={seed}: the VM ended"
                payloads = reader.feed(data)
            payload = payloads.pop(0)
            if payload[:1] != b"\x83":
                break
            value = decode(payload)
            if payload[1] != COMPRESSED:
                # So low a limit that nothing is read by recursion.
                deep = decode(payload, limits=Limits(max_terms=len(payload) - 1))
                assert repr(deep) == repr(value), f"SEED={seed}"
            assert decode(encode(value)) == value, f"SEED={seed}"
            vm.stdin.write(frame(encode(value)))
            vm.stdin.flush()
        vm.stdin.close()
    assert payload == b"done", f"SEED={seed}: {payload.decode(errors='replace')[:2000]}"


def damaged(seed, count):
    """Terms of all releases, a byte or two of which are others."""
    rng = random.Random(seed)
    whole = [
        data
        for file in ("golden.txt", "golden_27.txt", "golden_29.txt")
        for name, data in parsed((SCRIPT.parent / file).read_text()).items()
        if len(data) < 400 and not name.startswith("local")
    ]
    for _ in range(count):
        data = bytearray(rng.choice(whole))
        for _ in range(rng.randint(1, 2)):
            position = rng.randint(1, len(data) - 1) if len(data) > 1 else 1
            match rng.randrange(4):
                case 0:
                    data[position : position + 1] = bytes((rng.randrange(256),))
                case 1:
                    data[position : position + 1] = rng.choice(TAGS).to_bytes()
                case 2:
                    del data[position : position + rng.randint(1, 4)]
                case 3:
                    data[position:position] = rng.choice(whole)[1:20]
        yield bytes(data)


#: All but LOCAL_EXT, of which no VM reads another's, and the one of compressed terms.
TAGS = b"CFMXYZabcdefghijklmnopqrstvwx"
#: What a VM may refuse where it is read here: what only its node can read is kept as it is.
OPAQUE = ("Pid(", "Port(", "Reference(", "Fun(", "Export(", "LocalTerm(", "NativeRecord(")
#: What a VM may read where it is refused here: it does not look at the size of a fun (p), and reads
#: its own way to write atoms and binaries in its memory.
LENIENT = b"pIJKL"


def test_damaged_terms_are_what_the_vm_takes_them_for():
    seed = int(os.environ.get("SEED") or random.randrange(1 << 30))
    print(f"SEED={seed}")
    cases, written = list(damaged(seed, 4000)), []
    for data in cases:
        try:
            written.append(encode(decode(data)))
        except EtfError:
            written.append(b"")
    pairs = b"".join(map(frame, chain.from_iterable(zip(cases, written, strict=True))))
    with script("judge", stdin=subprocess.PIPE) as vm:
        out, _ = vm.communicate(pairs)
    reader = FrameReader()
    verdicts = reader.feed(out)
    assert len(verdicts) == len(cases)
    for data, ours, verdict in zip(cases, written, verdicts, strict=True):
        if not ours:
            assert verdict == b"refused" or set(LENIENT) & set(data), data
        elif verdict != b"same":
            assert verdict == b"refused", data
            assert any(kind in repr(decode(data)) for kind in OPAQUE), data
    assert verdicts.count(b"same") > 100
