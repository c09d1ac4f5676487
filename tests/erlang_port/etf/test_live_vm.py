"""The codec beside a live Erlang VM: golden vectors, and random terms that the VM compares."""

import base64
import os
import random
import subprocess
from pathlib import Path

import pytest

from erlang_port.etf import Atom, BitString, ImproperList, Map, decode, encode
from erlang_port.frames import FrameReader, frame
from tests.support.tools import require_tool

SCRIPT = Path(__file__).parent / "terms.escript"

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
}


def script(*arguments, **options):
    return subprocess.Popen(
        [require_tool("escript"), SCRIPT, *arguments], stdout=subprocess.PIPE, **options
    )


@pytest.fixture(scope="module")
def vectors():
    with script("golden") as process:
        lines = process.stdout.read().decode().splitlines()
    return {name: base64.b64decode(text) for name, text in map(str.split, lines)}


@pytest.mark.parametrize("name", VALUES)
def test_golden_vectors(vectors, name):
    value = decode(vectors[name])
    assert value == VALUES[name]
    assert type(value) is type(VALUES[name])
    if type(value) is not Map:
        # 1 and 1.0 are equal and are not the same.
        assert str(value) == str(VALUES[name])
    again = decode(encode(value))
    assert again == value


@pytest.mark.parametrize("name", ["pid", "port", "reference", "export", "fun"])
def test_what_only_its_node_can_read_is_echoed_byte_for_byte(vectors, name):
    value = decode(vectors[name])
    assert type(value).__name__.lower() == name
    assert encode(value) == vectors[name]
    assert encode([value, value]).count(vectors[name][1:]) == 2
    assert {value: 1}[decode(vectors[name])] == 1


def test_the_committed_vectors_are_still_what_a_vm_writes(vectors):
    committed = dict(
        line.split() for line in (SCRIPT.parent / "golden.txt").read_text().splitlines()[1:]
    )
    # Identifiers are another's each time; a term's bytes may differ by release, its value not.
    assert set(committed) == set(vectors)
    for name in VALUES:
        assert decode(base64.b64decode(committed[name])) == VALUES[name]


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
            repr(value)
            assert decode(encode(value)) == value, f"SEED={seed}"
            vm.stdin.write(frame(encode(value)))
            vm.stdin.flush()
        vm.stdin.close()
    assert payload == b"done", f"SEED={seed}: {payload.decode(errors='replace')[:2000]}"
