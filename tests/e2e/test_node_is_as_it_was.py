"""One tree whatever the vhosts, and nothing left in the node after detach."""

import asyncio
import re

import pytest

from tests.e2e.support import (
    ENVIRONMENT,
    attach,
    connected,
    detach,
    ended,
    start_broadcast,
    status,
    until,
)
from tests.support.logs import errors, log
from tests.support.processes import children, command_line, wait_gone


async def test_one_port_program_for_three_vhosts_and_for_those_that_come_and_go(start_node):
    hosts = ("localhost", "a.test", "b.test")
    node = start_node(hosts=hosts, environment=ENVIRONMENT)
    await asyncio.to_thread(attach, node)
    program = (await until(lambda: connected(node)))["port"]["os_pid"]
    assert len(programs(node)) == 1
    for vhosts in ((*hosts, "c.test"), hosts, ("localhost",), hosts):
        await asyncio.to_thread(node.reconfigure, hosts=vhosts)
        found = await asyncio.to_thread(status, node)
        assert sorted(found["node"]["vhosts"]) == sorted(vhosts)
        assert found["port"]["os_pid"] == program
        assert programs(node) == [program]
    assert "[critical]" not in log(node)
    assert "duplicate" not in log(node).lower()


def programs(node):
    """The port programs below the VM's forker."""
    return [pid for forker in children(node.pid) for pid in children(forker) if is_program(pid)]


def is_program(pid):
    return "bridge.port_program" in command_line(pid)


INVENTORY = (
    "#{processes => lists:sort([N || P <- processes(), {registered_name, N} <-"
    " [process_info(P, registered_name)]]),"
    " tables => lists:sort([N || T <- ets:all(), N <- [ets:info(T, name)], N =/= undefined]),"
    " hooks => lists:sort([{H, M, F} || {hooks, {H, _}, L} <- [{hooks, K, V} || {K, V} <-"
    " ets:tab2list(hooks)], E <- L, {M, F} <- [{element(2, E), element(3, E)}]]),"
    " routes => lists:sort(ejabberd_router:get_all_routes()),"
    " modules => lists:sort([M || {M, _} <- code:all_loaded(),"
    ' lists:prefix("megaphone_", atom_to_list(M)) orelse M =:= mod_megaphone]),'
    " terms => maps:get(count, persistent_term:info()) }"
)


#: Processes; ports; tables, those without a name too.
COUNTS = "{erlang:system_info(process_count), length(erlang:ports()), length(ets:all())}"

#: What asks the node has a node name of its own each time: an ejabberdctl, an erl_call.
ASKING = re.compile(r"'?(ctl-\d+-[0-9a-f]{12}@127\.0\.0\.1|call_\d+_\d+@[\w.-]+)'?")


# Ten installations, each of which compiles the module.
@pytest.mark.timeout(300)
async def test_attached_and_detached_ten_times(start_node, xmpp):
    node = start_node(environment=ENVIRONMENT)
    alice = await xmpp(node, "alice")
    # The first round loads code, with its atoms, that ejabberd keeps.
    await once(node, alice)
    before, counts = await settled(node, INVENTORY), await settled(node, COUNTS)
    atoms = int(node.eval("erlang:system_info(atom_count)"))
    for _ in range(9):
        await once(node, alice)
    assert await settled(node, INVENTORY, lambda now: now == before) == before
    assert "megaphone" not in before.replace(node.name, "")
    after = await settled(node, COUNTS, lambda now: no_more(now, counts))
    assert no_more(after, counts), (counts, after)
    assert [name for name in atoms_since(node, atoms) if not ASKING.fullmatch(name)] == []
    assert errors(log(node)) == []


async def once(node, client):
    """Attaches, sends a broadcast to the client, detaches."""
    await asyncio.to_thread(attach, node)
    program = (await until(lambda: connected(node)))["port"]["os_pid"]
    sent = len(client.messages)
    broadcast = await asyncio.to_thread(start_broadcast, node, f"{sent} for {{{{ user }}}}")
    found = await ended(node, broadcast)
    assert (found["state"], found["sent"], found["recipients"]) == ("done", 1, 1)
    await client.wait_for(sent + 1)
    await client.ping()
    assert client.bodies[sent:] == [f"{sent} for alice"]
    await asyncio.to_thread(detach, node)
    wait_gone(program, 3)


async def settled(node, what, wanted=None):
    """What the node says, once it is as wanted, or has stayed the same for some looks.

    ejabberd itself has a process or a table now and then that is gone a moment later.
    """
    looks = []

    def same():
        looks.append(node.eval(what))
        if wanted is not None:
            return wanted(looks[-1]) or len(looks) > 50
        return len(looks) > 5 and len(set(looks[-5:])) == 1

    await until(same, pause=0.1)
    return looks[-1]


def no_more(now, then):
    """Whether none of the counts has grown. What ejabberd had for a while may be gone."""
    numbers = (map(int, re.findall(r"\d+", counts)) for counts in (now, then))
    return all(after <= before for after, before in zip(*numbers, strict=True))


def atoms_since(node, count):
    """The atoms that the node has made since it had so many: an atom's number is its age."""
    shown = node.eval(
        'lists:flatten(lists:join(" ", [io_lib:format("~tw", [binary_to_term(<<131, 75, N:24>>)])'
        f" || N <- lists:seq({count}, erlang:system_info(atom_count) - 1)]))"
    )
    return shown.strip('"').split()
