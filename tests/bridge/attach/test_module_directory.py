from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.attach.module_directory import ModuleDirectory
from bridge.attach.node_process import NodeProcess
from bridge.attach.package import OPTIONS_FILE, Package
from bridge.cli.errors import CommandError, ExitStatus


def package(content: bytes) -> Package:
    return Package({"mod_megaphone.spec": b"", "src/a.erl": content}, "")


@pytest.fixture
def directory(tmp_path):
    environment = {"CONTRIB_MODULES_PATH": str(tmp_path / "home/modules")}
    ids = (os.getpid(), "a@b", os.geteuid(), os.getegid())
    return ModuleDirectory(NodeProcess(*ids, (), environment, (), Path("/")))


def source(directory):
    return (directory.sources / "src/a.erl").read_bytes()


def test_everything_made_is_cleared_and_nothing_else(directory):
    (directory.root.parent).mkdir()
    (directory.root.parent / "other").touch()
    with directory.locked():
        directory.put(package(b"1"), "options")
        assert source(directory) == b"1"
        assert (directory.sources / OPTIONS_FILE).read_text() == "options"
        directory.clear()
    assert [path.name for path in directory.root.parent.iterdir()] == ["other"]


def test_directories_of_before_stay(directory):
    (directory.root / "sources").mkdir(parents=True)
    with directory.locked():
        directory.put(package(b"1"), "")
        directory.clear()
    assert list(directory.root.rglob("*")) == [directory.root / "sources"]


def test_directories_that_others_use_by_now_stay(directory):
    with directory.locked():
        directory.put(package(b"1"), "")
        (directory.root / "sources/mod_other").mkdir()
        directory.clear()
    assert list(directory.root.rglob("mod_*")) == [directory.root / "sources/mod_other"]


def test_the_state_before_several_interrupted_runs_comes_back(directory):
    with directory.locked():
        directory.put(package(b"1"), "")
        directory.settle()
        options = directory.library / OPTIONS_FILE
        options.parent.mkdir(parents=True)
        options.write_text("first")
        directory.save_options()
        directory.put(package(b"2"), "second")
        options.write_text("second")
        directory.save_options()
        directory.put(package(b"3"), "third")
        assert source(directory) == b"3"
        assert directory.put_back()
    assert source(directory) == b"1"
    assert (directory.sources / OPTIONS_FILE).read_text() == "first"


def test_options_survive_what_ext_mod_deletes(directory):
    with directory.locked():
        options = directory.library / OPTIONS_FILE
        options.parent.mkdir(parents=True)
        options.write_text("mine")
        directory.save_options()
        options.unlink()
        assert directory.options() == "mine"
        directory.settle()
        assert directory.options() is None


def test_the_first_put_has_nothing_to_put_back(directory):
    with directory.locked():
        directory.put(package(b"1"), "")
        assert not directory.put_back()
        assert not directory.sources.exists()


def test_nothing_half_written_is_where_ext_mod_looks(directory, monkeypatch):
    def fail(_source, _target):
        raise OSError(28, "No space left on device")

    with directory.locked():
        monkeypatch.setattr(Path, "rename", fail)
        with pytest.raises(CommandError, match="No space left"):
            directory.put(package(b"1"), "")
    # ext_mod:modules_spec/2 and modules_configs/0, hidden names included.
    for pattern in ("*/*.spec", "sources/*/*.spec", "sources/*/*/*.spec", "*/conf/*.yml"):
        assert not list(directory.root.glob(pattern))


def test_one_at_a_time(directory):
    with (
        directory.locked(),
        pytest.raises(CommandError, match="another attach") as caught,
        ModuleDirectory(directory._node).locked(),
    ):
        pass
    assert caught.value.status == ExitStatus.FAILURE


def test_a_directory_in_the_way_of_which_is_a_file(directory):
    directory.root.parent.mkdir()
    directory.root.touch()
    with pytest.raises(CommandError), directory.locked():
        pass
