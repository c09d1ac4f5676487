import json
from pathlib import Path

import pytest

from bridge.cli import node as node_command
from bridge.cli.errors import CommandError, ExitStatus
from bridge.embedded_node import EmbeddedNode
from tests.support import processes
from tests.support.tools import require_ejabberd


@pytest.fixture
def directory(tmp_path):
    require_ejabberd()
    yield tmp_path / "node"
    if (tmp_path / "node").is_dir():
        EmbeddedNode(tmp_path / "node").stop()


def test_a_node_is_started_shown_and_stopped(run, directory):
    place = ("--dir", str(directory), "--json")
    status, out, _ = run("node", "start", *place, "--host", "localhost", "--host", "b.test")
    assert status == ExitStatus.OK
    started = json.loads(out)
    assert started["state"] == "running"
    assert started["hosts"] == ["localhost", "b.test"]
    assert Path(started["ejabberdctl"]) == directory / "ejabberdctl"
    assert processes.alive(started["pid"])

    status, out, _ = run("node", "status", *place)
    assert (status, json.loads(out)) == (ExitStatus.OK, started)

    status, out, _ = run("node", "list", "--json")
    assert started in json.loads(out)
    assert started["name"] in run("node", "list")[1]

    status, out, _ = run("node", "start", *place)
    assert status == ExitStatus.FAILURE
    assert "runs already" in json.loads(out)["error"]["what"]

    status, out, _ = run("node", "stop", *place)
    assert (status, json.loads(out)["state"]) == (ExitStatus.OK, "stopped")
    assert not processes.alive(started["pid"])
    assert started["name"] not in run("node", "list")[1]

    status, out, _ = run("node", "status", "--dir", str(directory))
    assert status == ExitStatus.NODE_NOT_RUNNING
    assert "stopped" in out


def test_a_directory_that_is_not_there_is_told(run, tmp_path):
    for command in ("status", "stop"):
        status, _, err = run("node", command, "--dir", str(tmp_path / "none"))
        assert status == ExitStatus.NODE_NOT_RUNNING
        assert "megaphone node start --dir" in err
    assert not (tmp_path / "none").exists()


def test_a_damaged_state_file_is_told(run, tmp_path):
    (tmp_path / "node.json").write_text("{")
    status, _, err = run("node", "status", "--dir", str(tmp_path))
    assert status == ExitStatus.FAILURE
    assert "node.json" in err


def test_an_ejabberdctl_that_is_not_there_is_told(run, tmp_path):
    words = ("node", "start", "--dir", str(tmp_path / "node"), "--ejabberdctl", "/nowhere/ctl")
    status, _, err = run(*words)
    assert status == ExitStatus.EJABBERDCTL_NOT_FOUND
    assert "/nowhere/ctl" in err
    assert not (tmp_path / "node").exists()


def test_a_name_stands_for_a_directory_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert node_command._place(None, "work") == tmp_path / "megaphone/nodes/work"
    assert node_command._place(None, None) == tmp_path / "megaphone/nodes/default"
    assert node_command._place(tmp_path, None) == tmp_path


@pytest.mark.parametrize("name", ["..", "a/b", ".", "a\nb"])
def test_a_name_leads_nowhere_else(name):
    with pytest.raises(CommandError) as caught:
        node_command._place(None, name)
    assert caught.value.status == ExitStatus.USAGE


def test_directory_and_name_exclude_each_other(tmp_path):
    with pytest.raises(CommandError, match="exclude"):
        node_command._place(tmp_path, "work")
