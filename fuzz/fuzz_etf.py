"""Fuzzes the codec: any bytes are a term or EtfError, and a term's own bytes give it back.

python fuzz/fuzz_etf.py -max_total_time=60
"""

import sys

import atheris

with atheris.instrument_imports():
    from erlang_port.etf import EtfError, Limits, decode, encode

#: Lower than the defaults, so that the bounds are met as well.
LIMITS = Limits(max_size=1 << 16, max_decompressed=1 << 16, max_depth=200, max_terms=5000)
#: So low a depth that nothing is read by recursion.
DEEP = LIMITS._replace(max_depth=32)


def test_one_input(data: bytes) -> None:
    """Decodes the input as it is, and as the rest of a term."""
    for candidate in (data, b"\x83" + data):
        try:
            deep = encode(decode(candidate, limits=DEEP))
        except EtfError:
            deep = None
        try:
            term = decode(candidate, limits=LIMITS)
        except EtfError:
            assert deep is None, "the two ways to read a term disagree"
            continue
        written = encode(term)
        again = decode(written)
        assert again == term
        assert encode(again) == written
        assert deep in {None, written}, "the two ways to read a term disagree"


def main() -> None:
    """Runs until libFuzzer's own options say stop."""
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
