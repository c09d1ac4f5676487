"""The real module on a node of the system's layout: root attaches, user ejabberd runs it."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from bridge.cli.errors import ExitStatus
from tests.support.processes import wait_gone


@pytest.fixture
def executable(make_environment):
    """The Python of an environment that every user may read."""
    directory = Path(tempfile.mkdtemp(prefix="megaphone-"))
    directory.chmod(0o755)
    yield make_environment(directory)
    shutil.rmtree(directory)


def megaphone(node, executable, *words):
    return subprocess.run(
        (executable, "-m", "bridge.cli.main", *words, "--ejabberdctl", node.ejabberdctl),
        env={"PATH": "/usr/bin:/bin", "LANG": "C"},
        cwd="/",
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=100,
    )


def uid(pid):
    return Path(f"/proc/{pid}").stat().st_uid


def test_root_attaches_and_ejabberd_runs_it(system_node, executable):
    # Another Megaphone may have the usual port; the program then says so and goes on.
    owner = system_node.process.uid
    done = megaphone(system_node, executable, "attach", "--json")
    assert done.returncode == ExitStatus.OK, done.stderr
    report = json.loads(done.stdout)
    assert report["python"] == str(executable)
    pid = report["status"]["port"]["os_pid"]
    assert uid(pid) == owner
    assert all(path.lstat().st_uid == owner for path in system_node.modules.rglob("*"))

    system_node.restart()
    done = megaphone(system_node, executable, "attach", "--json")
    assert json.loads(done.stdout)["action"] == "unchanged", done.stderr

    pid = json.loads(done.stdout)["status"]["port"]["os_pid"]
    assert megaphone(system_node, executable, "detach").returncode == ExitStatus.OK
    wait_gone(pid)
    assert not system_node.modules.exists()
    system_node.restart()
