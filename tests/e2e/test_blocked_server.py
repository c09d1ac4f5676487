"""A server that blocks the port program's loop, and one that casts to itself for ever: the node
keeps the program, and the other servers go on as soon as the loop does."""

import asyncio
import json

import pytest

from tests.e2e.support import ENVIRONMENT, attach, connected, port, status, until
from tests.support.logs import errors, log

#: Seconds of silence after which the node ends the program.
HEARTBEAT_TIMEOUT = 2
#: Seconds that a callback blocks: the program would be ended twice meanwhile.
BLOCKED = 5
#: Seconds that the caster is watched.
WATCHED = 5

SERVERS = """
import time

from erlang_port.etf import Atom
from erlang_port.otp import gen_server
from erlang_port.otp.gen_server import GenServer, NoReply, Ok, Reply
from erlang_port.otp.runtime import self


class Quick(GenServer):
    def init(self, args):
        return Ok(0)

    def handle_call(self, message, from_, state):
        return Reply(message, state)


class Blocking(Quick):
    def handle_call(self, message, from_, state):
        how, milliseconds = message
        end = time.monotonic() + milliseconds / 1000
        if how == "sleep":
            time.sleep(milliseconds / 1000)
        while time.monotonic() < end:
            pass
        return Reply(Atom("ok"), state)


class Caster(Quick):
    def handle_call(self, message, from_, state):
        if message == "begin":
            gen_server.cast(self_(), "again")
        return Reply(state, state)

    def handle_cast(self, message, state):
        gen_server.cast(self_(), "again")
        return NoReply(state + 1)


def self_():
    return self()
"""

#: Calls of a server one after the other, for so many milliseconds: how many it answers.
CALLS = """
begin
    End = erlang:monotonic_time(millisecond) + {milliseconds},
    Calls = fun Calls(N) ->
        case erlang:monotonic_time(millisecond) < End of
            true -> N = gen_server:call({server}, N, {timeout}), Calls(N + 1);
            false -> N
        end
    end,
    Calls(0)
end
"""


@pytest.fixture
async def node(start_node, tmp_path):
    (tmp_path / "blocking.py").write_text(SERVERS)
    settings = tmp_path / "megaphone.toml"
    settings.write_text(
        f"python_path = [{json.dumps(str(tmp_path))}]\n"
        + "".join(
            f'[servers.{name.lower()}]\nstart = "blocking:{name}"\n'
            for name in ("Quick", "Blocking", "Caster")
        )
    )
    node = await asyncio.to_thread(
        start_node, environment={**ENVIRONMENT, "MEGAPHONE_CONFIG": str(settings)}
    )
    await asyncio.to_thread(attach, node, heartbeat_interval=1, heartbeat_timeout=HEARTBEAT_TIMEOUT)
    there = "[N || N <- [quick, blocking, caster], whereis(N) =:= undefined]"
    await until(lambda: connected(node) and node.eval(there) == "[]")
    return node


def in_background(node, expression):
    return asyncio.create_task(asyncio.to_thread(node.eval, expression, BLOCKED + 30))


@pytest.mark.parametrize("how", ["sleep", "spin"])
async def test_a_callback_that_blocks_ends_nothing_and_is_reported(node, how):
    program = await asyncio.to_thread(port, node)
    assert program[0] == "connected"
    blocked = in_background(
        node, f"gen_server:call(blocking, {{{how}, {BLOCKED * 1000}}}, infinity)"
    )
    # A status of which Python's part is not there within its two seconds: the loop is blocked.
    missing = await until(lambda: (found := status(node))["bridge"] is None and found)
    assert missing["bridge_error"]
    assert missing["port"]["state"] == "connected"
    queued = in_background(node, "gen_server:call(quick, queued, infinity)")

    assert await blocked == "ok"
    assert await queued == "queued"
    assert (await asyncio.to_thread(status, node))["bridge"]["loop_lag_seconds"] > BLOCKED - 1
    assert await asyncio.to_thread(port, node) == program
    assert (await asyncio.to_thread(status, node))["port"]["restarts"] == 0
    assert errors(await asyncio.to_thread(log, node)) == []


async def test_a_server_that_casts_to_itself_for_ever_keeps_nobody_from_working(node):
    program = await asyncio.to_thread(port, node)
    assert await asyncio.to_thread(node.eval, "gen_server:call(caster, 'begin')") == "0"
    calls = in_background(
        node,
        CALLS.format(server="quick", milliseconds=WATCHED * 1000, timeout=2000),
    )
    lags = []
    while not calls.done():
        found = await asyncio.to_thread(status, node)
        lags.append(found["bridge"]["loop_lag_seconds"])
    assert int(await calls) > 10 * WATCHED
    assert max(lags) < 1
    first = int(await asyncio.to_thread(node.eval, "gen_server:call(caster, count)"))
    assert first > 1000 * WATCHED
    assert int(await asyncio.to_thread(node.eval, "gen_server:call(caster, count)")) > first
    assert await asyncio.to_thread(port, node) == program
    assert (await asyncio.to_thread(status, node))["port"]["restarts"] == 0
    assert errors(await asyncio.to_thread(log, node)) == []
