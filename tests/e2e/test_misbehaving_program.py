"""A port program that breaks the protocol, or does not start: the node says so once and goes on.

The `python` of the node is real, but the next life of the port program can be another: a stand-in
that misbehaves. What follows it is the real program again, with a broadcast that reaches everybody.
"""

import asyncio
import re
import sys
import zlib
from pathlib import Path

import pytest

from tests.e2e.support import ENVIRONMENT, attach, connected, ended, port, start_broadcast, until
from tests.support.logs import errors, log

STAND_INS = Path(__file__).resolve().parents[1] / "mod_megaphone/programs"

#: Bytes that the node's memory may be above what it was, once garbage is collected, and while it
#: looks at what the program sent: far from the 4 GiB of a length.
MEMORY = 32 * 1024 * 1024
MEMORY_MEANWHILE = 64 * 1024 * 1024

#: Python in front of which stands a file that names the program of the next life. Each argument
#: of the port program has its place: -I -u -m bridge.port_program [--check].
PYTHON = """#!/bin/sh
if [ "$4" = bridge.port_program ] && [ $# -eq 4 ] && [ -e "$0.next" ]; then
    next=$(cat "$0.next")
    rm "$0.next"
    exec "$next" "$@"
fi
if [ "$4" = bridge.port_program ] && [ -e "$0.broken" ]; then
    exec {python} -I -u -c 'import runpy, sys
sys.path.insert(0, "{directory}")
runpy.run_module("bridge.port_program", run_name="__main__", alter_sys=True)' ${{5+"$5"}}
fi
exec {python} "$@"
"""

#: A dependency of the program that fails, after it has printed.
BROKEN = """
import sys
print("words before it fails")
print("and some of a warning", file=sys.stderr)
import no_such_module
"""

#: The most that erlang:memory(total) comes to, looked at every other millisecond.
WATCH = """
Watch = fun Watch(Most) ->
    receive {stop, From} -> From ! {most, Most}
    after 2 -> Watch(max(Most, erlang:memory(total)))
    end
end,
true = register(memory_watch, spawn(fun() -> Watch(0) end)), ok
"""
WATCHED = "memory_watch ! {stop, self()}, receive {most, Most} -> Most end"

#: The memory of the node once every process has collected its garbage.
COLLECTED = "[erlang:garbage_collect(P) || P <- processes()], erlang:memory(total)"


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    directory = tmp_path_factory.mktemp("python")
    (directory / "aiohttp.py").write_text(BROKEN)
    script = directory / "python"
    script.write_text(PYTHON.format(python=sys.executable, directory=directory))
    script.chmod(0o755)
    return script


@pytest.fixture(scope="module")
def node(start_session_node, python):
    node = start_session_node(environment=ENVIRONMENT)
    attach(node, python=str(python))
    return node


@pytest.fixture
async def online(node, xmpp):
    await until(lambda: connected(node))
    return await xmpp(node, "alice")


def start_anew(node, **options):
    """Starts the program anew, without a failure that would be counted."""
    changes = ", ".join(f"{name} => {value}" for name, value in options.items())
    node.eval(
        "Options = persistent_term:get({mod_megaphone, options}),"
        " #{heartbeat_timeout := Timeout} = Options,"
        f" New = Options#{{heartbeat_timeout := Timeout + 1{changes and ', ' + changes}}},"
        " persistent_term:put({mod_megaphone, options}, New), megaphone_port:reload(New)"
    )


class Look:
    """The node before the program misbehaves, to be compared with it afterwards."""

    def __init__(self, node):
        self.node = node
        self.errors = errors(log(node))
        self._begin = len(node.log())
        self._memory = int(node.eval(COLLECTED))
        node.eval(WATCH)

    def lines(self, text):
        """The new lines of the log that hold this."""
        return [line for line in log(self.node)[self._begin :].splitlines() if text in line]

    def memory_is_as_before(self):
        most = int(self.node.eval(WATCHED))
        assert most - self._memory < MEMORY_MEANWHILE
        assert int(self.node.eval(COLLECTED)) - self._memory < MEMORY

    def complaints(self):
        """The new lines about the port program that warn."""
        new = log(self.node)[self._begin :].splitlines()
        return [
            line for line in new if re.search(r"\[(warning|error|critical)\].* megaphone", line)
        ]


async def serves(node, online, xmpp):
    """Commands, clients that log in and those that were there, and broadcasts."""
    told = await asyncio.to_thread(node.ctl, "connected_users")
    assert "alice@localhost" in told.stdout
    bob = await xmpp(node, "bob")
    bob.stream.send_message(mto=online.jid, mbody="from bob")
    await online.wait_for(1)
    await until(lambda: connected(node))
    broadcast = await asyncio.to_thread(start_broadcast, node, "for {{ user }}")
    found = await ended(node, broadcast)
    assert (found["state"], found["sent"], found["recipients"]) == ("done", 2, 2)
    await online.wait_for(2)
    await online.ping()
    assert online.bodies == ["from bob", "for alice"]
    await bob.wait_for(1)
    await bob.ping()
    assert bob.bodies == ["for bob"]


async def standing_in(node, python, stand_in):
    """The stand-in's pid, once it is connected."""
    before = port(node)[1]
    Path(f"{python}.next").write_text(str(STAND_INS / stand_in))
    start_anew(node)

    def there():
        state, pid = port(node)
        return int(pid) if state == "connected" and pid != before else None

    return await until(there)


async def replaced(node, pid):
    def other():
        state, now = port(node)
        return state == "connected" and now != str(pid)

    await until(other, 60)


@pytest.mark.parametrize(
    ("misbehaviour", "reason"),
    [
        # It gets credit back as fast as the node reads: it is ended once that falls behind.
        ("small_flood", "it sent more than its credit allows and was killed"),
        # Which bound it meets first, the speed of the two decides.
        (
            "heartbeats",
            "it sent (heartbeats or credit without end|more than its credit allows) and was killed",
        ),
        ("too_long", "it sent a frame of 5242880 bytes where 1 to 4194304 are allowed"),
        ("garbage", "it sent a frame of 4294967295 bytes where 1 to 4194304 are allowed"),
    ],
    ids=["without credit", "heartbeats", "over the limit", "garbage"],
)
async def test_what_a_program_is_killed_for(node, python, online, xmpp, misbehaviour, reason):
    pid = await standing_in(node, python, "answers")
    look = await asyncio.to_thread(Look, node)
    node.eval(f'megaphone_port:cast(<<"{misbehaviour}">>, x)')
    await replaced(node, pid)
    look.memory_is_as_before()
    (complaint,) = look.complaints()
    assert re.search(f"the port program is gone: {reason}", complaint)
    assert errors(log(node)) == look.errors
    await serves(node, online, xmpp)


async def test_garbage_as_the_first_bytes(node, python, online, xmpp):
    before = port(node)[1]
    look = await asyncio.to_thread(Look, node)
    Path(f"{python}.next").write_text(str(STAND_INS / "garbage"))
    start_anew(node)
    await replaced(node, before)
    await until(lambda: look.lines("finds nothing wrong when it checks itself"))
    look.memory_is_as_before()
    gone, checked = look.complaints()
    assert "gone: it sent a frame of 4294967295 bytes where 1 to 65536 are allowed" in gone
    assert "ended before its hello, but finds nothing wrong when it checks itself" in checked
    assert errors(log(node)) == look.errors
    await serves(node, online, xmpp)


UNKNOWN = b"an_atom_that_only_the_program_has"
TERM = b"h\x03w\x04castm\x00\x00\x00\x01xw" + bytes([len(UNKNOWN)]) + UNKNOWN
LONG = b"m" + (60000).to_bytes(4, "big") + bytes(60000)


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        (b"\x83" + TERM, "no term, or one with atoms that this node does not know"),
        (
            b"\x83P" + (60005).to_bytes(4, "big") + zlib.compress(LONG),
            "a compressed term",
        ),
        (b"\x83h\x01w\x02ok", "a term that is no message of this protocol"),
    ],
    ids=["unknown atom", "compressed", "no message"],
)
async def test_a_term_that_the_node_does_not_take(node, python, online, xmpp, payload, what):
    pid = await standing_in(node, python, "answers")
    look = await asyncio.to_thread(Look, node)
    sent = f'megaphone_port:call(<<"frame">>, <<{",".join(map(str, payload))}>>, 5000)'
    assert node.eval(sent) == "{ok,true}"
    # The program goes on, and the node has no atom of it.
    assert port(node) == ("connected", str(pid))
    assert node.eval('megaphone_port:call(<<"echo">>, 1, 5000)') == "{ok,1}"
    unknown = f"<<{','.join(map(str, UNKNOWN))}>>"
    assert "badarg" in node.eval(f"catch binary_to_existing_atom({unknown})")
    look.memory_is_as_before()
    (complaint,) = look.complaints()
    assert f"megaphone[port] a frame of the port program was dropped: {what}" in complaint
    start_anew(node)
    await replaced(node, pid)
    assert errors(log(node)) == look.errors
    await serves(node, online, xmpp)


async def test_a_program_that_fails_at_an_import(node, python, online, xmpp):
    look = await asyncio.to_thread(Look, node)
    broken = Path(f"{python}.broken")
    broken.touch()
    start_anew(node, restart_intensity=2, retry_interval=1000)
    await until(lambda: port(node)[0] == "down")
    await until(lambda: look.lines("does not start: its check ended with status 1"))
    for text in (
        "megaphone[check] words before it fails",
        "megaphone[check] and some of a warning",
        "megaphone[check] Traceback (most recent call last):",
        "megaphone[check] ModuleNotFoundError: No module named 'no_such_module'",
        "does not start: its check ended with status 1. Run '",
        "the port program is gone: it ended with status 1",
        "does not stay up: it ended with status 1. ejabberd goes on",
    ):
        assert len(look.lines(text)) == 1, text
    look.memory_is_as_before()
    broken.unlink()
    await until(lambda: look.lines("the port program is back"))
    start_anew(node, restart_intensity=5, retry_interval=60000)
    assert not look.lines("[critical]")
    await serves(node, online, xmpp)
