"""A Python server and the other nodes of its node's cluster."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.support import ENVIRONMENT, attach, connected
from tests.support.processes import wait_until
from tests.support.tools import require_tool

SERVER = """
from erlang_port.otp import gen_server, node
from erlang_port.otp.gen_server import Exit, GenServer, NoReply, Ok, Reply
from erlang_port.otp.runtime import self


class Clerk(GenServer):
    def init(self, args):
        return Ok([])

    async def handle_call(self, message, from_, state):
        try:
            return await self.do(message, state)
        except Exit as error:
            return Reply(("exit", error.reason), state)

    async def do(self, message, state):
        match message:
            case "seen":
                return Reply(state, state)
            case "node":
                return Reply((node.node(), await node.nodes()), state)
            case ("rpc", module, function, arguments):
                return Reply(await node.rpc(module, function, arguments), state)
            case ("monitor", target):
                self_().monitor(target)
                return Reply(True, state)
            case (("multi_call" | "call") as function, *arguments):
                return Reply(await getattr(gen_server, function)(*arguments), state)
            case (("abcast" | "cast") as function, *arguments):
                getattr(gen_server, function)(*arguments)
                return Reply(True, state)
        return Reply(("python", message), state)

    def handle_cast(self, message, state):
        return NoReply([*state, message])

    def handle_info(self, info, state):
        match info:
            case ("DOWN", _, "process", target, reason):
                return NoReply([*state, (target, reason)])


def self_():
    return self()
"""

#: The other node's name: on another address, so that it has the port by which nodes find each other
#: without epmd.
ADDRESS = "127.0.0.2"


@pytest.fixture(scope="module")
def node(start_session_node, tmp_path_factory):
    directory = tmp_path_factory.mktemp("clerk")
    (directory / "py_clerk.py").write_text(SERVER)
    settings = directory / "megaphone.toml"
    settings.write_text(
        f"python_path = [{json.dumps(str(directory))}]\n"
        '[servers.caller]\nstart = "py_clerk:Clerk"\n[servers.clerk]\nstart = "py_clerk:Clerk"\n'
    )
    node = start_session_node(environment={**ENVIRONMENT, "MEGAPHONE_CONFIG": str(settings)})
    attach(
        node,
        allowed_processes=["clerk", "nobody"],
        allowed_nodes=[other_name(node), "absent@127.0.0.1"],
        allowed_functions=["lists:reverse/1"],
    )
    wait_until(lambda: connected(node), 20)
    wait_until(lambda: "undefined" not in node.eval("[whereis(N) || N <- [caller, clerk]]"), 10)
    return node


def other_name(node):
    return node.name.replace("127.0.0.1", ADDRESS).replace("megaphone", "other")


@pytest.fixture
def other(node, tmp_path):
    """The name of another node that is connected, with a process `clerk` of Erlang's."""
    source = Path(__file__).with_name("clerk.erl")
    subprocess.run([require_tool("erlc"), "-o", tmp_path, source], check=True)
    name = other_name(node)
    command = [
        *(require_tool("erl"), "-noshell", "-name", name, "-pa", str(tmp_path)),
        *("-start_epmd", "false", "-erl_epmd_port", str(node.distribution_port)),
        *("-kernel", "inet_dist_use_interface", "{127,0,0,2}", "-s", "clerk", "start", node.name),
    ]
    environment = {"HOME": str(node.directory / "home"), "PATH": os.environ["PATH"]}
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as process:
        wait_until(lambda: f"'{name}'" in node.eval("nodes()"), 10)
        yield name
        process.stdin.close()
        process.wait(10)
    wait_until(lambda: node.eval("nodes()") == "[]", 10)


def ask(node, request):
    """What the Python server `caller` answers; the request is Erlang."""
    return node.eval(f"gen_server:call(caller, {request}, 10000)")


def test_the_nodes_by_name(node, other):
    assert ask(node, "node") == f"{{'{node.name}',['{other}']}}"


def test_multi_call_and_abcast(node, other):
    here, there, absent = (f"'{name}'" for name in (node.name, other, "absent@127.0.0.1"))
    everywhere = f"[{here}, {there}, {absent}]"
    good = f'[{{{here},{{<<"python">>,hi}}}},{{{there},{{{there},hi}}}}]'
    assert ask(node, f"{{multi_call, {everywhere}, clerk, hi}}") == f"{{{good},[{absent}]}}"
    assert ask(node, f"{{abcast, {everywhere}, clerk, news}}") == "true"
    seen = f"{{[{{{here},[news]}},{{{there},[news]}}],[]}}"
    wait_until(lambda: ask(node, f"{{multi_call, [{here}, {there}], clerk, seen}}") == seen, 10)
    assert ask(node, f"{{multi_call, [{there}], clerk, mute, 0.05}}") == f"{{[],[{there}]}}"
    assert ask(node, f"{{multi_call, [{there}, {here}], nobody, hi}}") == f"{{[],[{there},{here}]}}"
    # As OTP's own sees the Python server.
    erlang = node.eval(f"gen_server:multi_call([{here}, {there}], clerk, hi, 5000)")
    assert erlang == f"{{{good},[]}}"


def test_a_name_at_a_node(node, other):
    clerk = f"{{clerk, '{other}'}}"
    assert ask(node, f"{{call, {clerk}, hi}}") == f"{{'{other}',hi}}"
    assert ask(node, f"{{call, {{clerk, '{node.name}'}}, hi}}") == '{<<"python">>,hi}'
    assert ask(node, f"{{monitor, {clerk}}}") == "true"
    stopped = ask(node, f"{{call, {clerk}, stop}}")
    assert stopped.startswith('{<<"exit">>,{{crash,<<"the process ended: exit:closed">>},')
    wait_until(lambda: ask(node, "seen") == f"[{{{{clerk,'{other}'}},closed}}]", 10)
    assert ask(node, f"{{call, {clerk}, hi}}").startswith('{<<"exit">>,{noproc,')
    node.eval("exit(whereis(caller), kill)")
    wait_until(lambda: node.eval("whereis(caller)") != "undefined", 10)


def test_a_node_that_is_not_connected(node):
    away = "{clerk, 'absent@127.0.0.1'}"
    assert ask(node, "node") == f"{{'{node.name}',[]}}"
    called = ask(node, f"{{call, {away}, hi}}")
    assert called.startswith("{<<\"exit\">>,{{nodedown,'absent@127.0.0.1'},{gen_server,call,")
    assert ask(node, f"{{monitor, {away}}}") == "true"
    wait_until(lambda: ask(node, "seen") == "[{{clerk,'absent@127.0.0.1'},noconnection}]", 10)


def test_what_the_options_do_not_name_is_refused(node, other):
    for target, option in (
        ("{clerk, 'stranger@127.0.0.1'}", "nodes"),
        (f"{{init, '{other}'}}", "processes"),
    ):
        refused = ask(node, f"{{call, {target}, hi}}")
        assert refused.startswith(
            f'{{<<"exit">>,{{{{refused,<<"allowed_{option} does not allow it">>}}'
        )


def test_functions_of_the_node(node):
    assert ask(node, "{rpc, lists, reverse, [[1, 2]]}") == "[2,1]"
    refused = ask(node, "{rpc, os, cmd, [[]]}")
    assert refused == '{<<"exit">>,{refused,<<"allowed_functions does not allow it">>}}'
