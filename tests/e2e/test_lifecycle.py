"""What dies, and what must come of it: nobody skipped, nobody twice, nothing left behind."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from bridge.embedded_node import ports
from tests.e2e.support import (
    ENVIRONMENT,
    SLOW,
    attach,
    broadcast_status,
    connected,
    ended,
    get,
    start_broadcast,
    status,
    until,
)
from tests.support.logs import log
from tests.support.processes import alive, command_line, descendants, wait_gone, with_environment

USERS = 12


@pytest.fixture(scope="module")
def node(start_session_node):
    # Every life of the program listens on the same port.
    (http,) = ports.choose(1)
    node = start_session_node(
        environment={"MEGAPHONE_HTTP__PORT": str(http), "MEGAPHONE_WORKERS__COUNT": "2"}
    )
    attach(node, batch_size=1, batches_in_flight=USERS, heartbeat_interval=1, heartbeat_timeout=2)
    return node


@pytest.fixture
async def online(node, xmpp):
    await until(lambda: connected(node))
    return [await xmpp(node, f"user{n}") for n in range(USERS)]


async def in_flight(node):
    """A broadcast of which some have been sent and some have not."""
    broadcast = await asyncio.to_thread(start_broadcast, node, SLOW)

    def begun():
        found = broadcast_status(node, broadcast)
        assert found["state"] != "done", "the broadcast was over too soon to test anything"
        return found["sent"] > 0

    await until(begun)
    return broadcast


async def everybody_once(node, broadcast, online, bodies=("for user{n}",)):
    for each in [broadcast] if isinstance(broadcast, str) else broadcast:
        found = await ended(node, each)
        assert (found["state"], found["sent"], found["recipients"]) == ("done", USERS, USERS)
        assert (found["gone"], found["dropped"], found["failed"]) == (0, 0, 0)
    for n, client in enumerate(online):
        await client.wait_for(len(bodies))
        await client.ping()
        assert sorted(client.bodies) == sorted(body.format(n=n) for body in bodies)


def seconds_of_a_start():
    """What Python takes to import the port program, on this machine as busy as it is."""
    began = time.monotonic()
    subprocess.run(
        (sys.executable, "-I", "-m", "bridge.port_program", "--check"),
        check=True,
        capture_output=True,
        timeout=60,
    )
    return time.monotonic() - began


async def test_the_port_program_is_killed(node, online):
    before = await asyncio.to_thread(status, node)
    url = before["bridge"]["http"] + "/readyz"
    program = before["port"]["os_pid"]
    workers = [worker["pid"] for worker in before["bridge"]["workers"]]
    assert get(url)[0] == 200
    start = await asyncio.to_thread(seconds_of_a_start)
    broadcast = await in_flight(node)

    os.kill(program, signal.SIGKILL)
    killed = time.monotonic()
    answers, ready = await asyncio.to_thread(until_ready, url)

    # The next one is ready after the node has its hello, and nothing says so before.
    asked = time.monotonic()
    since = re.fullmatch(
        r'{<<"connected">>,(\d+),([\d.]+)}',
        node.eval(
            'begin S = megaphone_port:status(), {maps:get(<<"state">>, S),'
            ' maps:get(<<"os_pid">>, S), maps:get(<<"connected_seconds">>, S)} end'
        ),
    )
    assert int(since[1]) != program
    # Between these two it was connected: the node looked after the question, before the answer.
    earliest, latest = asked - float(since[2]), time.monotonic() - float(since[2])
    assert ready > earliest
    assert set(answers) <= {None, 503}
    assert answers, "nobody asked while there was no program"
    # 2 s, but not on a machine so busy that Python alone takes them.
    assert latest - killed < max(2, 3 * start)
    after = await until(lambda: connected(node))
    assert after["bridge"]["http"] + "/readyz" == url
    for pid in (program, *workers):
        wait_gone(pid, 2)
    await everybody_once(node, broadcast, online)


def until_ready(url):
    """Asks without a pause until the answer is 200: those before it, and when it came."""
    answers = []
    deadline = time.monotonic() + 20
    while (answer := get(url)[0]) != 200:
        assert time.monotonic() < deadline, f"never ready again: {set(answers)}"
        answers.append(answer)
    return answers, time.monotonic()


async def test_a_worker_is_killed(node, online):
    before = await asyncio.to_thread(connected, node)
    broadcast = await in_flight(node)
    worker = before["bridge"]["workers"][0]["pid"]
    os.kill(worker, signal.SIGKILL)
    await everybody_once(node, broadcast, online)
    after = await until(lambda: connected(node))
    assert after["port"]["os_pid"] == before["port"]["os_pid"]
    assert after["bridge"]["worker_restarts"] == before["bridge"]["worker_restarts"] + 1
    assert worker not in [found["pid"] for found in after["bridge"]["workers"]]
    assert get(after["bridge"]["http"] + "/readyz")[0] == 200


#: 120 kB of a template's body and subject, of which no text has anything.
BULK = "{# " + "x" * 60_000 + " #}"
BROADCASTS = 4

#: Lets the fan-outs begin and waits until the port's queue has filled; how much was in it.
FILL = """
begin
    ok = sys:resume(megaphone_fanout_sup),
    Filled = fun Filled(Looks) ->
        case maps:get(<<"queued_bytes">>, megaphone_port:status()) of
            Bytes when Bytes > 1000000; Looks =:= 0 -> Bytes;
            _ -> timer:sleep(5), Filled(Looks - 1)
        end
    end,
    Filled(200)
end
"""


async def test_the_port_program_is_stopped_with_data_queued(node, online):
    before = await asyncio.to_thread(connected, node)
    program = before["port"]["os_pid"]
    workers = [worker["pid"] for worker in before["bridge"]["workers"]]
    # Broadcasts whose templates have been tried by the workers, and of which nothing has been sent.
    node.eval("sys:suspend(megaphone_fanout_sup)")
    starting = [
        asyncio.create_task(
            asyncio.to_thread(
                start_broadcast, node, f"{BULK}{n} for {{{{ user }}}}", subject=f"{BULK}{n}"
            )
        )
        for n in range(BROADCASTS)
    ]
    waiting = (
        "[element(2, process_info(whereis(Name), message_queue_len))"
        " || Name <- [megaphone_fanout_sup, megaphone_broadcasts]]"
    )
    await until(lambda: node.eval(waiting) == f"[1,{BROADCASTS - 1}]")
    os.kill(program, signal.SIGSTOP)
    queued = int(await asyncio.to_thread(node.eval, FILL))
    assert queued > 1_000_000

    await asyncio.to_thread(wait_gone, program, 5)
    for pid in workers:
        wait_gone(pid, 2)
    bodies = [f"{n} for user{{n}}" for n in range(BROADCASTS)]
    await everybody_once(node, await asyncio.gather(*starting), online, bodies)
    after = await until(lambda: connected(node))
    assert after["port"]["os_pid"] != program
    assert after["port"]["queued_bytes"] == 0
    assert "it was silent for" in log(node)


async def test_a_stopped_worker_is_replaced_at_its_batchs_deadline(node, online):
    before = await asyncio.to_thread(connected, node)
    worker = before["bridge"]["workers"][0]["pid"]
    os.kill(worker, signal.SIGSTOP)
    broadcast = await asyncio.to_thread(start_broadcast, node, "for {{ user }}")
    await everybody_once(node, broadcast, online)
    await asyncio.to_thread(wait_gone, worker, 15)


async def test_the_vm_is_killed(start_node):
    node = start_node(environment={**ENVIRONMENT, "MEGAPHONE_TEST_LIFE": "vm"})
    await asyncio.to_thread(attach, node)
    found = await until(lambda: connected(node))
    program = found["port"]["os_pid"]
    below = descendants(program)
    assert {worker["pid"] for worker in found["bridge"]["workers"]} <= set(below)
    # A stopped process sees no end of file.
    os.kill(below[0], signal.SIGSTOP)
    os.kill(program, signal.SIGSTOP)
    node.kill()
    for pid in (program, *below):
        wait_gone(pid, 2)
    left = [pid for pid in with_environment("MEGAPHONE_TEST_LIFE", "vm") if alive(pid)]
    assert not [pid for pid in left if "python" in "".join(command_line(pid)[:1])]


async def test_python_that_cannot_stay_up(start_node, tmp_path, xmpp):
    settings = tmp_path / "megaphone.toml"
    settings.write_text("")
    node = start_node(environment={**ENVIRONMENT, "MEGAPHONE_CONFIG": str(settings)})
    await asyncio.to_thread(attach, node, retry_interval=2)
    found = await until(lambda: connected(node))
    settings.write_text("[workers]\nnumber = 3\n")
    os.kill(found["port"]["os_pid"], signal.SIGKILL)
    await until(lambda: status(node)["port"]["state"] == "down", 60)
    # ejabberd goes on; the log says once what is wrong, with what the program said.
    alice, bob = await xmpp(node, "alice"), await xmpp(node, "bob")
    alice.stream.send_message(mto=bob.jid, mbody="still here")
    await bob.wait_for(1)
    await until(lambda: "workers.number" in log(node))
    down = [
        line for line in log(node).splitlines() if "[error]" in line and "does not stay up" in line
    ]
    assert len(down) == 1
    settings.write_text("")
    await until(lambda: connected(node), 60)
    assert "[critical]" not in log(node)
