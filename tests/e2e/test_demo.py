"""`megaphone demo`: from nothing to three messages, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bridge.cli.errors import ExitStatus
from tests.support.processes import alive, numbers, wait_until
from tests.support.tools import require_ejabberd

BODIES = [f"Hello {user}! The tea is ready 🍵" for user in ("alice", "bob", "zoë")]


@pytest.fixture
def start_demo(tmp_path):
    """Starts the demo, all that it makes below a directory of the test's own."""
    require_ejabberd()
    processes = []

    def start(*arguments):
        process = subprocess.Popen(
            (sys.executable, "-u", "-m", "bridge.cli.main", "demo", *arguments),
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def below(tmp_path):
    """Processes whose environment names the directory: the VM's does, and so its children's."""
    found = []
    for pid in numbers():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(tmp_path) in environment and alive(pid):
            found.append(pid)
    return found


def nothing_left(tmp_path):
    wait_until(lambda: not below(tmp_path), timeout=10)
    return not list(tmp_path.glob("megaphone-demo-*"))


def test_once(start_demo, tmp_path):
    demo = start_demo("--once")
    output, _ = demo.communicate(timeout=110)
    assert demo.returncode == ExitStatus.OK, output
    for body in BODIES:
        assert body in output
    assert "sent 3 of 3" in output
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(signal.SIGINT, ExitStatus.OK), (signal.SIGTERM, ExitStatus.TERMINATED)],
)
def test_it_stays_until_it_is_ended(start_demo, tmp_path, number, expected):
    demo = start_demo()
    watchdog = threading.Timer(100, demo.kill)
    watchdog.start()
    try:
        seen = []
        for line in demo.stdout:
            seen.append(line)
            if line.startswith("Ctrl-C"):
                break
        assert seen[-1].startswith("Ctrl-C"), "".join(seen)
        assert len(below(tmp_path)) >= 3  # The VM, the port program, a worker.
        demo.send_signal(number)
        rest = demo.stdout.read()
        assert demo.wait() == expected, rest
    finally:
        watchdog.cancel()
    assert nothing_left(tmp_path)


def test_without_slixmpp(tmp_path):
    code = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: None if name == 'slixmpp' else find(name)\n"
        "from bridge.cli.main import main\n"
        "main(['demo', '--once'])\n"
    )
    done = subprocess.run(
        (sys.executable, "-c", code),
        env={**os.environ, "TMPDIR": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == ExitStatus.FAILURE
    assert "pip install '.[demo]'" in done.stderr
    assert not list(tmp_path.iterdir())
