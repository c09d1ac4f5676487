"""The atoms that this end says by itself exist at the node."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_node_knows_them_all():
    source = (ROOT / "mod_megaphone/src/megaphone_vocabulary.erl").read_text()
    listed = set(re.findall(r"[\w$@]+", source.rpartition("[")[2]))
    said = {
        atom
        for module in (ROOT / "erlang_port/otp").glob("*.py")
        for atom in re.findall(r'Atom\(\s*"([^"]+)"', module.read_text())
    }
    assert said - listed == set()
    assert listed - said == set()
