"""Whatever the bytes: a term or EtfError, within some seconds and some hundred megabytes."""

import base64
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from erlang_port.etf import EtfError, Limits, decode, encode
from erlang_port.etf.limits import DEFAULT
from tests.erlang_port.etf import nasty
from tests.erlang_port.etf.nasty import NASTY

GOLDEN = Path(__file__).parent / "golden.txt"

#: So low a depth that nothing is read by recursion.
DEEP = Limits(max_depth=32)


def test_the_defaults_are_beyond_what_a_stanza_or_a_batch_reaches():
    assert Limits() == DEFAULT == (64 << 20, 64 << 20, 32_000, 1_000_000)


def become(*arguments):
    """What nasty.py says of its input."""
    done = subprocess.run(
        [sys.executable, "-I", Path(nasty.__file__), *arguments],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    return done.stdout


@pytest.mark.parametrize("name", NASTY)
def test_nasty_bytes_cost_little(name):
    expected, _ = NASTY[name]
    assert re.search("^term$" if expected == "term" else expected, become(name))


@pytest.mark.parametrize(
    ("name", "memory"),
    # A term that is too long, one that is inflated, one that decodes and is too long to be written.
    [("64 MiB in one binary", 30), ("a million []", 30), ("a bomb", 30), ("one-tuples", 90)],
)
def test_too_little_memory_is_an_error(name, memory):
    assert become(name, str(memory)) == "the term needs more memory than there is\n"


def test_damaged_terms_are_terms_or_errors():
    vectors = [base64.b64decode(line.split()[1]) for line in GOLDEN.read_text().splitlines()[1:]]
    rng = random.Random(20)
    accepted = 0
    for _ in range(30_000):
        data = bytearray(rng.choice(vectors))
        if len(data) > 2000:
            continue
        for _ in range(rng.randint(1, 4)):
            position = rng.randint(1, len(data) - 1) if len(data) > 1 else 1
            match rng.randrange(3):
                case 0:
                    data[position : position + 1] = bytes((rng.randrange(256),))
                case 1:
                    del data[position : position + rng.randint(1, 4)]
                case 2:
                    data[position:position] = rng.choice(vectors)[1:20]
        try:
            value = decode(bytes(data))
        except EtfError:
            with pytest.raises(EtfError):
                decode(bytes(data), limits=DEEP)
            continue
        accepted += 1
        assert decode(encode(value)) == value
        assert repr(decode(bytes(data), limits=DEEP)) == repr(value)
    # Neither all of them nor none.
    assert 1000 < accepted < 29_000
