"""A worker that prints 10 MB while it formats: the log gets some of it, nothing waits."""

import asyncio
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

from tests.e2e.support import ENVIRONMENT, attach, connected, ended, port, start_broadcast, until
from tests.support.logs import errors, log

ROOT = Path(__file__).resolve().parents[2]
LINE = "this line was printed by a worker " + "x" * 45
LINES = 10 * 1024 * 1024 // (len(LINE) + 1)

#: In site-packages, which -I leaves in: the worker's own formatting prints first, once.
PRINTING = f"""
import sys
if "bridge.fanout.worker" in sys.orig_argv:
    import os
    from bridge.fanout import batch
    format_batch = batch.format_batch
    def printing(*arguments):
        try:
            os.unlink(sys.prefix + "/print")
        except FileNotFoundError:
            pass
        else:
            for _ in range({LINES}):
                print({LINE!r})
            open(sys.prefix + "/printed", "w").close()
        return format_batch(*arguments)
    batch.format_batch = printing
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A virtual environment of which the workers print."""
    root = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root], check=True, timeout=60)
    site = root / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    (site / "printing.py").write_text(PRINTING)
    (site / "printing.pth").write_text(
        f"{sysconfig.get_path('purelib')}\n{ROOT}\nimport printing\n"
    )
    return root


@pytest.fixture(scope="module")
def node(start_session_node, environment):
    node = start_session_node(environment=ENVIRONMENT)
    attach(node, python=str(environment / "bin/python"))
    return node


async def test_a_worker_that_prints_10_mb(node, environment, xmpp):
    await until(lambda: connected(node))
    before = port(node)
    alice = await xmpp(node, "alice")
    noted = errors(log(node))
    begin = len(node.log())
    (environment / "print").touch()
    began = time.monotonic()
    for text in ("while it prints", "afterwards"):
        broadcast = await asyncio.to_thread(start_broadcast, node, f"{text}, {{{{ user }}}}")
        assert (await ended(node, broadcast))["sent"] == 1
    assert (environment / "printed").exists()
    await alice.wait_for(2)
    await alice.ping()
    assert alice.bodies == ["while it prints, alice", "afterwards, alice"]
    # The program and its workers are those of before, none ended or was replaced.
    after = await until(lambda: connected(node))
    assert after["bridge"]["worker_restarts"] == 0
    assert port(node) == before
    # Some of what was printed, at a rate, and how much was not.
    await until(lambda: " were dropped: " in log(node)[begin:])
    new = log(node)[begin:]
    assert 0 < new.count(f"megaphone[stdout] {LINE}\n") < 200 * (time.monotonic() - began + 2)
    assert len(new.splitlines()) < 200 * (time.monotonic() - began + 2)
    assert errors(log(node)) == noted
