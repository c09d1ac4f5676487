"""Starts a program at the port of a live Erlang VM (programs/node.escript)."""

import base64
import subprocess
import sys
from pathlib import Path

from erlang_port.etf import decode
from tests.support.tools import require_tool

PROGRAMS = Path(__file__).parent / "programs"


def command(program, *arguments, node="quick"):
    """The command line of a VM that runs one of the programs.

    `node` is how it treats the program: quick, slow, strange, garbage or closing.
    """
    require_tool("escript")
    script = PROGRAMS / "node.escript"
    return ["escript", script, node, sys.executable, PROGRAMS / program, *map(str, arguments)]


def run(program, *arguments, node="quick"):
    """Runs it to its end: what the VM received, as {pid, end, messages}."""
    done = subprocess.run(command(program, *arguments, node=node), capture_output=True, timeout=60)
    assert done.returncode == 0, done
    return decode(base64.b64decode(done.stdout.splitlines()[-1]))
