"""attach, status and detach as a user runs them, against a real node and with the real parts."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

from bridge.attach import installation
from bridge.attach.installation import AttachRequest
from bridge.cli.errors import ExitStatus
from bridge.resources import mod_megaphone_source
from bridge.version import __version__
from tests.support.processes import wait_gone


def megaphone(node, command, *arguments):
    words = (command, "--ejabberdctl", str(node.ejabberdctl), *arguments)
    environment = {name: value for name, value in os.environ.items() if name[:3] != "LC_"}
    return subprocess.run(
        (sys.executable, "-m", "bridge.cli.main", *words),
        env={**environment, "LANG": "C"},
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=100,
    )


def status(node):
    done = megaphone(node, "status", "--json")
    assert done.returncode == ExitStatus.OK, done.stdout + done.stderr
    return json.loads(done.stdout)


def the_tree_shows_a_worker_that_was_killed(node, worker):
    """The restarts and the uptime of a process that is supervised; the pid of the new one."""
    os.kill(worker, signal.SIGKILL)

    def restarted():
        tree = megaphone(node, "status", "--tree").stdout
        line = r"worker-0  os_process (\d+), running, up \d+s, 1 restart$"
        return re.search(line, tree, re.MULTILINE)

    deadline = time.monotonic() + 20
    while not (found := restarted()):
        assert time.monotonic() < deadline
    (pid,) = found.groups()
    assert int(pid) != worker
    return [int(pid)]


def test_attach_status_detach(start_node):
    node = start_node(
        hosts=("localhost", "a.test", "b.test"), environment={"MEGAPHONE_HTTP__PORT": "0"}
    )
    assert megaphone(node, "status").returncode == ExitStatus.FAILURE

    done = megaphone(node, "attach", "--json")
    assert done.returncode == ExitStatus.OK, done.stderr
    report = json.loads(done.stdout)
    assert (report["action"], report["version"]) == ("installed", __version__)
    assert report["node"] == node.name
    shown = status(node)
    assert shown["port"]["state"] == "connected"
    assert sorted(shown["node"]["vhosts"]) == ["a.test", "b.test", "localhost"]
    assert node.name in megaphone(node, "status").stdout

    again = megaphone(node, "attach")
    assert again.returncode == ExitStatus.OK
    assert "already attached" in again.stdout
    assert status(node)["port"]["os_pid"] == shown["port"]["os_pid"]

    node.restart()
    assert megaphone(node, "attach", "--json").returncode == ExitStatus.OK
    shown = status(node)
    processes = [shown["port"]["os_pid"], *(worker["pid"] for worker in shown["bridge"]["workers"])]
    processes += the_tree_shows_a_worker_that_was_killed(node, processes[1])

    done = megaphone(node, "detach")
    assert done.returncode == ExitStatus.OK, done.stderr
    assert "warning" not in done.stderr
    for pid in processes:
        wait_gone(pid)
    assert not list(node.modules_path.rglob("*megaphone*"))
    assert "unknown command" in node.ctl("megaphone_status", check=False).stdout
    assert megaphone(node, "detach").returncode == ExitStatus.OK

    node.restart()
    assert node.ctl("reload_config").returncode == 0


def test_an_upgrade_replaces_every_module(start_node, tmp_path, monkeypatch):
    node = start_node(environment={"MEGAPHONE_HTTP__PORT": "0"})
    old = tmp_path / "old"
    shutil.copytree(mod_megaphone_source(), old, ignore=shutil.ignore_patterns("ebin"))
    part = old / "src/megaphone_json.erl"
    text = part.read_text()
    end_of_module_line = text.index("\n", text.index("-module(")) + 1
    part.write_text(
        f"{text[:end_of_module_line]}-export([former/0]).\n{text[end_of_module_line:]}"
        "\n-spec former() -> true.\nformer() -> true.\n"
    )
    request = AttachRequest(ejabberdctl=str(node.ejabberdctl), options={"batch_size": 77})
    with monkeypatch.context() as former:
        former.setattr(installation, "mod_megaphone_source", lambda: old)
        installation.attach(request, installation.plan(request), print)
    assert node.eval("megaphone_json:former()") == "true"

    plain = AttachRequest(ejabberdctl=str(node.ejabberdctl))
    report = installation.attach(plain, installation.plan(plain), print)
    assert report.action == "upgraded"
    assert node.eval("erlang:function_exported(megaphone_json, former, 0)") == "false"
    assert node.eval("mod_megaphone:stale_modules()") == "[]"
    assert node.eval("mod_megaphone:option(batch_size)") == "77"


def test_a_failed_attach_leaves_nothing(start_node):
    node = start_node()
    done = megaphone(node, "attach", "--option", "no_such_option=1")
    assert done.returncode == ExitStatus.CONFIGURATION
    assert "no_such_option" in done.stderr.splitlines()[-1]
    assert not list(node.modules_path.rglob("*megaphone*"))
    assert node.ctl("reload_config").returncode == 0
    done = megaphone(node, "attach", "--option", "python=/usr/bin/python3")
    assert done.returncode == ExitStatus.USAGE
    assert "--python" in done.stderr


def test_a_dry_run_changes_nothing(start_node):
    node = start_node()
    done = megaphone(node, "attach", "--dry-run")
    assert done.returncode == ExitStatus.OK, done.stderr
    assert f"would install mod_megaphone {__version__} into {node.name}" in done.stdout
    assert not list(node.modules_path.rglob("*megaphone*"))


def test_a_node_that_does_not_run(start_node):
    node = start_node()
    node.stop()
    for command in ("attach", "detach", "status"):
        done = megaphone(node, command)
        assert done.returncode == ExitStatus.NODE_NOT_RUNNING
        assert done.stderr.count("\n") == 1
