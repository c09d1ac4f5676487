from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bridge.attach import ejabberdctl
from bridge.attach.ejabberdctl import ARGUMENT_LIMIT, Ejabberdctl, NotAttachedError, RunningNode
from bridge.cli.errors import CommandError, ExitStatus


@pytest.fixture
def fake(tmp_path):
    """Makes an ejabberdctl of a few lines of shell."""

    def make(script: str) -> Ejabberdctl:
        path = tmp_path / "ejabberdctl"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return Ejabberdctl.find(str(path))

    return make


def test_it_is_found_by_path_by_command_line_and_by_variable(fake, monkeypatch):
    ctl = fake('echo "$@"')
    path = ctl.command[0]
    assert Ejabberdctl.find(f"{path} --config-dir '/a b'").command == (path, "--config-dir", "/a b")
    monkeypatch.setenv(ejabberdctl.ENVIRONMENT, path)
    assert Ejabberdctl.find().command == (path,)


def test_it_is_found_without_sbin_in_path(fake, monkeypatch):
    ctl = fake("exit 0")
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv(ejabberdctl.ENVIRONMENT, raising=False)
    monkeypatch.setattr(ejabberdctl, "USUAL_PLACES", ctl.command)
    assert Ejabberdctl.find() == ctl


@pytest.mark.parametrize("given", ["/no/such/ejabberdctl", "no-such-ejabberdctl --node x"])
def test_a_missing_one_is_an_error(given):
    with pytest.raises(CommandError, match="no such program") as caught:
        Ejabberdctl.find(given)
    assert caught.value.status == ExitStatus.EJABBERDCTL_NOT_FOUND


def test_arguments_arrive_as_they_are_whatever_the_locale(fake, monkeypatch):
    monkeypatch.setenv("LANG", "C")
    monkeypatch.delenv("LC_ALL", raising=False)
    outcome = fake('printf "%s|" "$LC_ALL" "$@"').run("a b", "Zoë 👋", "-x", "")
    assert outcome.output == "C.UTF-8|a b|Zoë 👋|-x||"


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("echo \"Failed RPC connection to the node 'a@b': nodedown\"; exit 3", "NODE_NOT_RUNNING"),
        ("echo 'Failed RPC connection to the node a@b: timeout'; exit 3", "TIMEOUT"),
        ("exit 3", "NODE_NOT_RUNNING"),
        ("echo 'ERROR: This command can only be run by root' >&2; exit 7", "PERMISSION"),
    ],
)
def test_its_failures_are_told_apart(fake, script, status):
    with pytest.raises(CommandError) as caught:
        fake(script).run("status")
    assert caught.value.status == ExitStatus[status]


def test_one_that_hangs_is_ended_with_its_children(fake, tmp_path):
    ctl = fake(f"sleep 1000 & echo $! > {tmp_path}/child; wait")
    with pytest.raises(CommandError, match="did not answer") as caught:
        ctl.run("status", timeout=0.5)
    assert caught.value.status == ExitStatus.TIMEOUT
    child = Path("/proc", (tmp_path / "child").read_text().strip())
    deadline = time.monotonic() + 5
    while child.exists() and "Z" not in (child / "stat").read_text().split():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_argument_that_linux_would_not_take(fake):
    ctl = fake("exit 0")
    assert ctl.run("command", "x" * ARGUMENT_LIMIT).status == 0
    with pytest.raises(CommandError) as caught:
        ctl.run("command", "x" * (ARGUMENT_LIMIT + 1))
    assert caught.value.status == ExitStatus.USAGE


def test_a_file_that_is_no_program(tmp_path):
    path = tmp_path / "ejabberdctl"
    path.write_bytes(os.urandom(16))
    path.chmod(0o755)
    with pytest.raises(CommandError) as caught:
        Ejabberdctl((str(path),)).run("status")
    assert caught.value.status == ExitStatus.EJABBERDCTL_NOT_FOUND


def test_the_node_that_runs(fake):
    ctl = fake(
        "echo \"The node 'ejabberd@a-b' is started with status: started\"\n"
        "echo 'ejabberd 23.01-1 is running in that node'"
    )
    assert ctl.node() == RunningNode("ejabberd@a-b", "23.01-1")
    assert ctl.node().release == (23, 1)
    assert RunningNode("a@b", "my server").release is None


def test_a_node_without_ejabberd(fake):
    ctl = fake(
        "echo 'The node a@b is starting with status: started'\n"
        "echo 'ejabberd is not running in that node'; exit 1"
    )
    with pytest.raises(CommandError, match="ejabberd is not running") as caught:
        ctl.node()
    assert caught.value.status == ExitStatus.NODE_NOT_RUNNING


def test_a_document_is_found_among_other_lines(fake):
    assert fake("echo WARNING; printf '{\"a\": \\n 1}\\n'").json("x") == {"a": 1}


@pytest.mark.parametrize("script", ["echo nothing", "echo '{broken'; exit 1", "echo '[1]'"])
def test_what_is_no_document_is_an_error(fake, script):
    with pytest.raises(CommandError) as caught:
        fake(script).json("megaphone_status")
    assert caught.value.status == ExitStatus.FAILURE


@pytest.mark.parametrize(
    "line",
    [
        "Error: unknown command 'megaphone_status'. Did you mean 'status'?",
        "** exception error: undefined function mod_megaphone:status/0",
    ],
)
def test_an_unknown_command_means_not_attached(fake, line):
    with pytest.raises(NotAttachedError, match="not attached"):
        fake(f'echo "{line}"; exit 1').json("megaphone_status")
