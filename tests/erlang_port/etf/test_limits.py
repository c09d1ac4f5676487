"""Whatever the bytes: a term or EtfError, within some seconds and some hundred megabytes."""

import base64
import random
import subprocess
import sys
from pathlib import Path

import pytest

from erlang_port.etf import EtfError, decode, encode

GOLDEN = Path(__file__).parent / "golden.txt"

NASTY = {
    "8 MiB of []": "b'l' + (1 << 23).to_bytes(4, 'big') + b'j' * ((1 << 23) + 1)",
    "many empty maps": "b'l\\x00\\x0f\\x00\\x00' + b't\\x00\\x00\\x00\\x00' * 0xf0000 + b'j'",
    "a million one-tuples": "b'l\\x00\\x07\\x00\\x00' + b'h\\x01j' * 0x70000 + b'j'",
    "10 MB of nested lists": "b'l\\x00\\x00\\x00\\x01' * 2_000_000",
    "10 MB of nested tuples": "b'h\\x01' * 5_000_000",
    "nested list heads": "b'l\\xff\\xff\\xff\\xff' * 30",
    "a tuple of 4 G": "b'i\\xff\\xff\\xff\\xff'",
    "a list of 4 G": "b'l\\xff\\xff\\xff\\xff' + b'j' * 100",
    "a map of 4 G": "b't\\xff\\xff\\xff\\xff' + b'j' * 100",
    "an integer of 60 MB": "b'o' + (60 << 20).to_bytes(4, 'big') + b'\\0' + b'\\xff' * (60 << 20)",
    "strings": "b'l\\x00\\x00\\x03\\xe8' + (b'k\\xff\\xff' + bytes(65535)) * 1000 + b'j'",
    "colliding keys": "b't' + (90000).to_bytes(4, 'big') + b''.join(b'n\\x0a\\0' +"
    " (n * ((1 << 61) - 1)).to_bytes(10, 'little') + b'j' for n in range(90000))",
    "unhashable keys": "b't' + (300000).to_bytes(4, 'big') + b''.join(b'l\\0\\0\\0\\1n\\4\\0' +"
    " n.to_bytes(4, 'little') + b'jj' for n in range(300000))",
    "maps as keys of maps": "b't\\0\\0\\0\\2' * 3000 + b'jj' + b'a\\1j' * 3000",
    "map keys 30,000 deep": "b't\\0\\0\\0\\1' * 30000 + b'j' + b'j' * 30000",
    "maps with list keys, nested": "b't\\0\\0\\0\\1l\\0\\0\\0\\1' * 9000 + b'j' + b'jj' * 9000",
    "a bomb": "__import__('struct').pack('>BI', 80, 1 << 26) +"
    " __import__('zlib').compress(bytes(1 << 26))",
    "a bomb of []": "__import__('struct').pack('>BI', 80, (1 << 26) - 1) +"
    " __import__('zlib').compress(b'l\\3\\xff\\xff\\xf0' + b'j' * ((1 << 26) - 6))",
    "distinct atoms": "b'l\\x00\\x03\\x00\\x00' +"
    " b''.join(b'w\\x08%08x' % n for n in range(0x30000)) + b'j'",
}

PROGRAM = """
import resource, sys
sys.setrecursionlimit(1000)
from erlang_port.etf import EtfError, decode, encode
data = b'\\x83' + ({expression})
base = int(open('/proc/self/statm').read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (base + 700 * 1024 * 1024,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
try:
    encode(decode(data))
    print("term")
except EtfError as error:
    print("error", error.reason)
"""


@pytest.mark.parametrize("name", NASTY)
def test_nasty_bytes_cost_little(name):
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM.format(expression=NASTY[name])],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout.split()[0] in {"term", "error"}


def test_damaged_terms_are_terms_or_errors():
    vectors = [base64.b64decode(line.split()[1]) for line in GOLDEN.read_text().splitlines()[1:]]
    rng = random.Random(20)
    for _ in range(30_000):
        data = bytearray(rng.choice(vectors))
        if len(data) > 2000:
            continue
        for _ in range(rng.randint(1, 4)):
            position = rng.randrange(1, len(data))
            match rng.randrange(3):
                case 0:
                    data[position] = rng.randrange(256)
                case 1:
                    del data[position:][: rng.randint(1, 4)]
                case 2:
                    data[position:position] = rng.choice(vectors)[1:20]
        try:
            value = decode(bytes(data))
        except EtfError:
            continue
        assert decode(encode(value)) == value
