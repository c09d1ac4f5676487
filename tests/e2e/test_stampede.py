"""Processes of every kind are killed all the time, and callers do not stop calling: nobody gets an
answer that was another's, and afterwards all is as it was."""

import asyncio
import json
import os
import re
import signal
from pathlib import Path

import pytest

from tests.e2e.support import ENVIRONMENT, attach, connected, port, status, until
from tests.support.logs import errors, log
from tests.support.processes import wait_gone

#: So many that each is killed a few times only: its supervisor waits longer with each.
NAMES = [f"stampede_{number}" for number in range(16)]
CALLERS = 40
SECONDS = 10
#: Milliseconds between two victims.
PACE = 100
#: Seconds between two workers that are killed.
WORKER_PACE = 2.0
#: Seconds until all is there again: the longest wait of a supervisor, and a slow machine.
RECOVERY = 60

SERVER = """
from erlang_port.otp import gen_server
from erlang_port.otp.gen_server import GenServer, NoReply, Ok, Reply
from erlang_port.otp.runtime import self


class Server(GenServer):
    def init(self, args):
        return Ok([])

    def handle_call(self, message, from_, state):
        match message:
            case ("now", number):
                return Reply(number, state)
            case ("later", number):
                # Answered together with those that come until then, the last one first.
                gen_server.cast(self_(), "release")
                return NoReply([(from_, number), *state])

    def handle_cast(self, message, state):
        match message:
            case "release":
                for from_, number in state:
                    gen_server.reply(from_, number)
                return NoReply([])
            case "raise":
                raise ValueError("on purpose")


def self_():
    return self()
"""

#: What this test does on purpose, as the log says it.
EXPECTED = (
    r"\] servers: child stampede_\d+ ended: (killed|trampled|ValueError: on purpose)\n",
    # Its name can be reached before its start is over.
    r"\] servers: child stampede_\d+ did not start: (killed|trampled)\n",
    r"\] gen_server stampede_\d+ terminating: ValueError: on purpose\\nTraceback",
    r"supervisor: \{local,megaphone_proxies\}\n.*child_terminated\n *reason: killed\n",
    r"\] workers: child worker-\d+ ended: exit status 137\n",
)


@pytest.fixture
def node(start_node, tmp_path):
    (tmp_path / "stampede_server.py").write_text(SERVER)
    settings = tmp_path / "megaphone.toml"
    settings.write_text(
        f"python_path = [{json.dumps(str(tmp_path))}]\n[workers]\ncount = 2\n"
        + "".join(f'[servers.{name}]\nstart = "stampede_server:Server"\n' for name in NAMES)
    )
    node = start_node(environment={**ENVIRONMENT, "MEGAPHONE_CONFIG": str(settings)})
    path = json.dumps(str(Path(__file__).with_name("stampede.erl")))
    node.eval(
        f"begin {{ok, N, B}} = compile:file({path}, [binary, report_errors]),"
        f" {{module, N}} = code:load_binary(N, {path}, B), ok end",
        timeout=60,
    )
    # Nothing comes and goes but what this test kills.
    quiet = {"pipeline_heartbeat_interval": "infinity", "sample_interval": 3600}
    attach(node, restart_intensity=50, reconciliation_interval=3600, **quiet)
    return node


def answering(node):
    """Whether every server is there and answers."""
    return (
        node.eval(
            f"[1 || N <- {names()}, whereis(N) =:= undefined"
            " orelse (catch gen_server:call(N, {now, 7})) =/= 7]"
        )
        == "[]"
    )


def names():
    return f"[{','.join(NAMES)}]"


def inventory(node):
    """What there is at both ends."""
    found = connected(node)
    at_python = found and (
        found["bridge"]["processes"],
        found["port"]["processes"],
        [worker["state"] for worker in found["bridge"]["workers"]],
    )
    return at_python, node.eval(f"stampede:inventory({names()})")


async def kill_workers(node, over):
    """Kills a worker every two seconds, and once the port program itself; the pids."""
    killed, program = [], None
    while not over.done():
        await asyncio.wait({over}, timeout=WORKER_PACE)
        if len(killed) == 2 and program is None:
            _, shown = await asyncio.to_thread(port, node)
            program = int(shown)
            os.kill(program, signal.SIGKILL)
            await asyncio.to_thread(wait_gone, program)
        bridge = (await asyncio.to_thread(status, node)).get("bridge") or {"workers": []}
        pids = [worker["pid"] for worker in bridge["workers"] if worker["pid"] is not None]
        if pids and pids[0] not in killed:
            killed.append(pids[0])
            # It may have ended by itself, together with the program.
            try:
                os.kill(pids[0], signal.SIGKILL)
            except ProcessLookupError:
                continue
    return killed, program


async def test_all_is_as_it_was_after_a_stampede(node):
    await until(lambda: connected(node) and answering(node), RECOVERY)
    before = await asyncio.to_thread(inventory, node)
    assert before[0][0] >= len(NAMES)
    first = (await asyncio.to_thread(port, node))[1]

    storm = asyncio.create_task(
        asyncio.to_thread(
            node.eval,
            f"stampede:run({names()}, {CALLERS}, {SECONDS * 1000}, {PACE})",
            SECONDS + 60,
        )
    )
    killed, program = await kill_workers(node, storm)
    shown = await storm
    assert len(killed) >= 3
    assert str(program) == first
    counted = re.fullmatch(r"\{counted,(\d+),(\d+),\[(\d+),(\d+),(\d+)\]\}", shown)
    assert counted, shown
    answered, failed, *kills = map(int, counted.groups())
    assert answered > 1000
    assert failed > 0
    assert min(kills) >= 5, kills

    await until(lambda: connected(node) and answering(node), RECOVERY)
    after = None

    def as_before():
        nonlocal after
        after = inventory(node)
        return after == before

    try:
        await until(as_before, RECOVERY, pause=0.2)
    except TimeoutError:
        assert after == before
    assert (await asyncio.to_thread(status, node))["port"]["restarts"] == 1
    unexpected = [
        entry
        for entry in errors(await asyncio.to_thread(log, node))
        if not any(re.search(pattern, entry) for pattern in EXPECTED)
    ]
    assert unexpected == []
