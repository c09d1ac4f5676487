"""One tree whatever the vhosts, and nothing left in the node after detach."""

import asyncio

from tests.e2e.support import ENVIRONMENT, attach, connected, detach, status, until
from tests.support.logs import errors, log
from tests.support.processes import children, wait_gone, wait_until


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
    with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
        return b"bridge.port_program" in file.read()


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


def test_attached_and_detached_ten_times(start_node):
    node = start_node(environment=ENVIRONMENT)
    once(node)
    before, atoms = node.eval(INVENTORY), int(node.eval("erlang:system_info(atom_count)"))
    ports = node.eval("length(erlang:ports())")
    for _ in range(9):
        once(node)
    assert node.eval(INVENTORY) == before
    assert "megaphone" not in before.replace(node.name, "")
    assert node.eval("length(erlang:ports())") == ports
    # Each look at the node, and each ejabberdctl with a node name of its own, may add some.
    grown = int(node.eval("erlang:system_info(atom_count)")) - atoms
    assert grown < 9 * 20, f"{grown} atoms more after nine times"
    assert errors(log(node)) == []


def once(node):
    attach(node)
    wait_until(lambda: connected(node), 20)
    program = status(node)["port"]["os_pid"]
    detach(node)
    wait_gone(program, 3)
