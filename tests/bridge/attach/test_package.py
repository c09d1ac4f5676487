from __future__ import annotations

import pytest

from bridge.attach import package
from bridge.attach.module_options import EMPTY
from bridge.cli.errors import CommandError
from bridge.resources import mod_megaphone_source


def test_what_belongs_to_it(tmp_path):
    belongs = {
        "mod_megaphone.spec",
        "src/mod_megaphone.erl",
        "src/deep/a.erl",
        "include/megaphone.hrl",
        "README.md",
    }
    stays = {"ebin/a.beam", "test/a.erl", "src/.a.erl.swp", ".git/x", "_build/x", "conf/other.yml"}
    for name in belongs | stays:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    loaded = package.load(tmp_path)
    assert loaded.files == {name: name.encode() for name in belongs}
    assert loaded.options == EMPTY


def test_what_is_none(tmp_path):
    with pytest.raises(CommandError, match=r"no mod_megaphone.spec"):
        package.load(tmp_path)


def test_the_one_that_this_installation_brings():
    loaded = package.load(mod_megaphone_source())
    assert {"mod_megaphone.spec", "src/mod_megaphone.erl"} <= loaded.files.keys()
    assert not any(name.startswith("conf/") for name in loaded.files)
