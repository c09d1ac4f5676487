"""Whether the node's user can run a Python, tried on a node of the system's layout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import pytest

from bridge.attach import installation, python_check
from bridge.attach.installation import AttachRequest
from bridge.attach.node_process import NodeProcess
from bridge.cli.errors import CommandError, ExitStatus
from bridge.version import __version__


def own_process():
    return NodeProcess(
        pid=os.getpid(),
        name="a@b",
        uid=os.geteuid(),
        gid=os.getegid(),
        groups=(),
        environment={},
        arguments=(),
        directory=Path("/"),
    )


@pytest.fixture
def home_environment(make_environment):
    """One under /home that every user may read."""
    directory = Path(tempfile.mkdtemp(prefix="megaphone-", dir="/home"))
    directory.chmod(0o755)
    yield make_environment(directory)
    shutil.rmtree(directory)


def test_ones_own_python_can_be_run():
    found = python_check.check(own_process(), sys.executable)
    assert found.version == __version__
    assert found.python == ".".join(map(str, sys.version_info[:3]))


@pytest.mark.parametrize("path", ["python3", "/no/such/python"])
def test_a_path_that_is_none(path):
    with pytest.raises(CommandError) as caught:
        python_check.check(own_process(), path)
    assert caught.value.status == ExitStatus.USAGE


def test_a_python_without_megaphone(tmp_path):
    venv.create(tmp_path, with_pip=False, symlinks=True)
    with pytest.raises(CommandError, match="cannot run Megaphone: ModuleNotFoundError") as caught:
        python_check.check(own_process(), str(tmp_path / "bin/python"))
    assert caught.value.status == ExitStatus.INCOMPATIBLE


def test_another_version_is_refused(system_node, monkeypatch):
    monkeypatch.setattr(installation, "__version__", "999")
    with pytest.raises(CommandError, match="and this is 999") as caught:
        installation.plan(AttachRequest(ejabberdctl=system_node.ejabberdctl))
    assert caught.value.status == ExitStatus.INCOMPATIBLE


def test_a_readable_environment_passes_as_ejabberds_user(system_node, home_environment):
    process = system_node.process
    assert process.user == "ejabberd"
    found = python_check.check(process, str(home_environment))
    assert found.executable == str(home_environment)


def test_an_environment_in_a_closed_directory_is_refused(system_node, tmp_path, make_environment):
    closed = tmp_path / "closed"
    executable = make_environment(closed / "venv")
    closed.chmod(0o700)
    told = rf"user ejabberd cannot run {executable}: \S+ is closed to it"
    request = AttachRequest(ejabberdctl=system_node.ejabberdctl, python=str(executable))
    with pytest.raises(CommandError, match=told) as caught:
        installation.plan(request)
    assert caught.value.status == ExitStatus.PERMISSION
    assert "/opt/megaphone" in caught.value.remedy
    assert not system_node.modules.exists()


def test_packages_that_only_their_owner_reads_are_refused(system_node, make_environment):
    base = Path(tempfile.mkdtemp(prefix="megaphone-"))
    try:
        base.chmod(0o755)
        executable = make_environment(base)
        next(base.glob("lib/python*")).chmod(0o700)
        with pytest.raises(CommandError, match=r"cannot run .* as you can: .*No module") as caught:
            python_check.check(system_node.process, str(executable))
        assert caught.value.status == ExitStatus.PERMISSION
    finally:
        shutil.rmtree(base)


def test_a_hidden_home_is_seen_through(make_system_node, home_environment, make_environment):
    """systemd's ProtectHome is a mount of the node's own: the path exists here, and not there."""
    if subprocess.run(("unshare", "--mount", "true"), check=False).returncode != 0:
        pytest.skip("this container may not make mounts")
    node = make_system_node(mask_home=True)
    node.start()
    assert node.process.own_mounts
    with pytest.raises(CommandError, match="ProtectHome") as caught:
        python_check.check(node.process, str(home_environment))
    assert caught.value.status == ExitStatus.PERMISSION
    assert "/opt/megaphone" in caught.value.remedy
    outside = Path(tempfile.mkdtemp(prefix="megaphone-"))
    try:
        outside.chmod(0o755)
        executable = make_environment(outside)
        assert python_check.check(node.process, str(executable)).version == __version__
    finally:
        shutil.rmtree(outside)
