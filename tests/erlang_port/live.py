"""Starts a program at the port of a live Erlang VM (programs/node.escript)."""

import base64
import subprocess
import sys
from pathlib import Path

from erlang_port.etf import decode
from tests.support.tools import require_tool

PROGRAMS = Path(__file__).parent / "programs"


def command(program, *arguments):
    """The command line of a VM that runs one of the programs."""
    require_tool("escript")
    script = PROGRAMS / "node.escript"
    return ["escript", script, sys.executable, PROGRAMS / program, *map(str, arguments)]


def run(program, *arguments):
    """Runs it to its end: what the VM received, as {pid, end, messages}."""
    done = subprocess.run(command(program, *arguments), capture_output=True, timeout=60)
    assert done.returncode == 0, done
    return decode(base64.b64decode(done.stdout.splitlines()[-1]))
