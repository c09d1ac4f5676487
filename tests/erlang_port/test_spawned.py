import os
import signal
import subprocess
import sys
import time

from erlang_port.spawned import NOT_RUN
from tests.support.processes import alive

MODULE = (sys.executable, "-I", "-m", "erlang_port.spawned")

#: Starts the command, says its pid, and waits.
PARENT = f"""
import os, subprocess, sys, time
child = subprocess.Popen([*{MODULE!r}, str(os.getpid()), "sh", "-c", "echo ready; sleep 60"],
    stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


def run(*command):
    return subprocess.run(
        [*MODULE, str(os.getpid()), *command], capture_output=True, text=True, timeout=30
    )


def test_it_becomes_the_command():
    done = run("sh", "-c", "echo $1; exit 7", "sh", "a b")
    assert (done.returncode, done.stdout) == (7, "a b\n")


def test_a_command_that_is_not_there():
    done = run("/no/such/command")
    assert done.returncode == NOT_RUN
    assert done.stderr == "/no/such/command cannot be run: No such file or directory\n"


def test_a_parent_that_is_not_the_one_who_asked():
    done = subprocess.run([*MODULE, "1", "echo", "x"], capture_output=True, timeout=30)
    assert (done.returncode, done.stdout) == (NOT_RUN, b"")


def test_a_stopped_one_dies_with_its_parent():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, signal.SIGSTOP)
        parent.kill()
    over = time.monotonic() + 5
    while alive(child):
        assert time.monotonic() < over
        time.sleep(0.01)
