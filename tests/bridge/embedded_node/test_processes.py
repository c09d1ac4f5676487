import os
import signal
import subprocess
import sys

import pytest

from bridge.embedded_node import processes
from bridge.embedded_node.processes import Identity

SLEEP = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]


@pytest.fixture
def child():
    with subprocess.Popen(
        SLEEP,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "MARKED": "so"},
    ) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


def test_a_process_is_told_from_a_later_one_with_its_pid(child):
    identity = processes.identify(child.pid)
    assert identity is not None
    assert identity.alive
    assert not Identity(child.pid, identity.started + 1).alive


def test_a_zombie_is_not_alive(child):
    identity = processes.identify(child.pid)
    assert identity is not None
    child.kill()
    assert processes.wait_gone([identity], 5) == []
    assert not identity.alive
    assert processes.identify(child.pid) is None


def test_waiting_is_bounded_and_names_who_is_left(child):
    identity = processes.identify(child.pid)
    assert identity is not None
    assert processes.wait_gone([identity], 0.05) == [identity]


def test_a_signal_reaches_this_process_only(child):
    identity = processes.identify(child.pid)
    assert identity is not None
    assert not processes.send(Identity(child.pid, identity.started + 1), signal.SIGKILL)
    assert identity.alive
    assert processes.send(identity, signal.SIGKILL)
    assert processes.wait_gone([identity], 5) == []


def test_descendants_and_carriers_of_a_variable_are_found(child):
    identity = processes.identify(child.pid)
    assert identity in processes.descendants(os.getpid())
    assert (identity, "so") in list(processes.carrying("MARKED"))
    assert list(processes.carrying("MARKED", "otherwise")) == []
