"""A real Prometheus, started and stopped."""

import os
import signal
import subprocess
import sys
import urllib.request

import pytest

from bridge.cli.errors import CommandError, ExitStatus
from bridge.embedded_prometheus import EmbeddedPrometheus
from tests.support.processes import alive, descendants, wait_gone, wait_until
from tests.support.tools import require_tool


@pytest.fixture
def server(tmp_path):
    """A Prometheus of the test's own, not started yet; it scrapes itself."""
    require_tool("prometheus")
    server = EmbeddedPrometheus(tmp_path / "prometheus", [])
    server = EmbeddedPrometheus(tmp_path / "prometheus", [server.url.removeprefix("http://")])
    yield server
    server.stop()


def test_it_scrapes_and_evaluates_and_shows(server):
    server.start()
    pid = server.pid
    wait_until(lambda: server.get("query", query='up{job="megaphone"}')["result"], timeout=10)
    (group, *_) = server.get("rules", type="alert")["groups"]
    assert group["rules"][0]["name"] == "MegaphoneDown"
    with urllib.request.urlopen(server.console, timeout=5) as answer:
        assert b"<h1>Megaphone</h1>" in answer.read()
    server.check()
    server.stop()
    wait_gone(pid)


def test_a_query_that_is_none_is_refused(server):
    server.start()
    with pytest.raises(CommandError, match=r"refused query .*parse error"):
        server.get("query", query="sum(")


def test_a_prometheus_that_is_not_there(tmp_path):
    server = EmbeddedPrometheus(tmp_path, [], command="no-such-prometheus")
    with pytest.raises(CommandError, match="no-such-prometheus is not installed") as caught:
        server.start()
    assert "apt-get install" in caught.value.remedy


def test_one_that_ends_shows_why(tmp_path):
    program = tmp_path / "broken"
    program.write_text("#!/bin/sh\necho the disk is full\nexit 3\n")
    program.chmod(0o700)
    server = EmbeddedPrometheus(tmp_path / "files", [], command=str(program))
    with pytest.raises(CommandError, match=r"ended with status 3(.|\n)*the disk is full"):
        server.start()


def test_one_that_is_never_ready(tmp_path):
    program = tmp_path / "slow"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o700)
    server = EmbeddedPrometheus(tmp_path / "files", [], command=str(program))
    before = set(descendants(os.getpid()))
    with pytest.raises(CommandError, match="not ready in time") as caught:
        server.start(timeout=0.2)
    assert caught.value.status == ExitStatus.TIMEOUT
    assert not [pid for pid in set(descendants(os.getpid())) - before if alive(pid)]


def test_its_end_is_seen(server):
    server.start()
    os.kill(server.pid, signal.SIGKILL)
    wait_gone(server.pid)
    with pytest.raises(CommandError, match="ended with status -9"):
        server.get("query", query="up")


def test_it_dies_with_who_started_it(tmp_path):
    require_tool("prometheus")
    program = (
        "import pathlib, sys, time\n"
        "from bridge.embedded_prometheus import EmbeddedPrometheus\n"
        "server = EmbeddedPrometheus(pathlib.Path(sys.argv[1]), [])\n"
        "server.start()\n"
        "print(server.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        (sys.executable, "-c", program, str(tmp_path)), stdout=subprocess.PIPE, text=True
    ) as starter:
        pid = int(starter.stdout.readline())
        assert alive(pid)
        starter.kill()
    wait_gone(pid)
