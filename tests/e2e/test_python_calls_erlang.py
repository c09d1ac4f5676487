"""What a Python server may do with processes of the node, by the names of OTP's behaviours."""

import json
import re
from pathlib import Path

import pytest

from tests.e2e.support import ENVIRONMENT, attach, connected
from tests.support.logs import log
from tests.support.processes import wait_until

#: Calls what it is told to.
CALLER = """
from collections.abc import Awaitable

from erlang_port.etf import Atom
from erlang_port.otp import gen_fsm, gen_server, gen_statem
from erlang_port.otp.gen_server import Exit, GenServer, NoReply, Ok, Reply
from erlang_port.otp.runtime import self as me

MODULES = {"gen_fsm": gen_fsm, "gen_server": gen_server, "gen_statem": gen_statem}

#: The node has never heard of it, and cannot be told of it either.
UNKNOWN = Atom("an_atom_that_no_node_knows_4712")


async def reason(server, message):
    try:
        await gen_server.call(server, message)
    except Exit as error:
        return error.reason[0]


class Caller(GenServer):
    def init(self, args):
        return Ok([])

    async def handle_call(self, message, from_, state):
        if message == "events":
            return Reply(state, [])
        if message == "monitor_unknown":
            me().monitor(UNKNOWN)
            return Reply(True, state)
        if message == "unknown":
            return Reply([await reason("door", UNKNOWN), await reason(UNKNOWN, 1)], state)
        module, function, arguments = message
        try:
            answer = getattr(MODULES[module], function)(*arguments)
            if isinstance(answer, Awaitable):
                answer = await answer
        except Exit as error:
            answer = (Atom("exit"), error.reason)
        return Reply(answer, state)

    def handle_info(self, info, state):
        match info:
            case ("DOWN", _, "process", target, reason):
                return NoReply([*state, (target.encode(), reason)])
        return NoReply([*state, info])
"""


@pytest.fixture(scope="module")
def node(start_session_node, tmp_path_factory):
    directory = tmp_path_factory.mktemp("caller")
    (directory / "caller.py").write_text(CALLER)
    settings = directory / "megaphone.toml"
    settings.write_text(
        f'python_path = [{json.dumps(str(directory))}]\n[servers.caller]\nstart = "caller:Caller"\n'
    )
    node = start_session_node(environment={**ENVIRONMENT, "MEGAPHONE_CONFIG": str(settings)})
    load(node, "machines.erl")
    attach(node, allowed_processes=["door", "lamp"])
    wait_until(lambda: connected(node), 20)
    wait_until(lambda: node.eval("whereis(caller)") != "undefined", 10)
    return node


@pytest.fixture
def machines(node):
    """Machines that have seen nothing yet."""
    assert node.eval("machines:start()") == "ok"
    yield node
    node.eval("[exit(P, kill) || N <- [door, lamp], P <- [whereis(N)], is_pid(P)]")
    wait_until(lambda: node.eval("[whereis(N) || N <- [door, lamp]]") == "[undefined,undefined]", 5)


def load(node, name):
    path = json.dumps(str(Path(__file__).with_name(name)))
    node.eval(
        f"begin {{ok, N, B}} = compile:file({path}, [binary, report_errors]),"
        f" {{module, N}} = code:load_binary(N, {path}, B), ok end",
        timeout=60,
    )


def python(node, module, function, *arguments):
    """What Python got from a function of a behaviour; the arguments are Erlang."""
    return node.eval(f"gen_server:call(caller, {{{module}, {function}, [{','.join(arguments)}]}})")


def test_a_gen_statem(machines):
    assert python(machines, "gen_statem", "call", "door", "state") == "{locked,0}"
    asked = "S = gen_statem:send_request(caller, {gen_statem, call, [door, pass]})"
    assert (
        # Postponed until the door is unlocked.
        machines.eval(
            f"begin {asked}, gen_statem:cast(door, unlock), gen_statem:receive_response(S) end"
        )
        == "{reply,1}"
    )
    assert python(machines, "gen_statem", "cast", "door", "unlock") == "undefined"
    assert python(machines, "gen_statem", "call", "whereis(door)", "pass", "5.0") == "2"
    late = python(machines, "gen_statem", "call", "door", "pass", "0.05")
    assert late == "{exit,{timeout,{gen_statem,call,[door,pass]}}}"
    broken = python(machines, "gen_statem", "call", "door", "break")
    assert broken == (
        '{exit,{{crash,<<"the process ended: exit:broken">>},{gen_statem,call,[door,break]}}}'
    )
    gone = python(machines, "gen_statem", "call", "door", "state")
    assert gone == "{exit,{noproc,{gen_statem,call,[door,state]}}}"


def test_a_gen_fsm(machines):
    ask = "sync_send_event", "lamp"
    ask_all = "sync_send_all_state_event", "lamp"
    assert python(machines, "gen_fsm", *ask, "why") == "{off,why}"
    assert python(machines, "gen_fsm", "send_event", "lamp", "press") == "undefined"
    assert python(machines, "gen_fsm", "send_all_state_event", "lamp", "dust") == "undefined"
    assert python(machines, "gen_fsm", *ask_all, "seen") == "{on,[press,dust]}"
    assert python(machines, "gen_fsm", *ask, "{still, 1}") == "{on,{still,1}}"
    late = python(machines, "gen_fsm", *ask_all, "wait", "0.05")
    assert late == "{exit,{timeout,{gen_fsm,sync_send_all_state_event,[lamp,wait]}}}"
    assert "exit:broken" in python(machines, "gen_fsm", *ask_all, "break")
    gone = python(machines, "gen_fsm", *ask, "why")
    assert gone == "{exit,{noproc,{gen_fsm,sync_send_event,[lamp,why]}}}"


def test_what_is_not_allowed_is_refused_and_logged(node):
    asked = python(node, "gen_fsm", "sync_send_event", "ejabberd_sm", "hello")
    assert asked.startswith("{exit,{{refused,")
    assert python(node, "gen_fsm", "send_event", "ejabberd_sm", "hello") == "undefined"
    wait_until(lambda: "its send was refused" in log(node), 10)
    assert "a call of ejabberd_sm was refused" in log(node)


def test_what_the_node_does_not_know_fails_its_own_call_and_at_once(node):
    seen = node.eval("gen_server:call(caller, unknown, 2000)")
    assert re.fullmatch(r'\[\{badarg,<<"the request is no term, or .*">>\},noproc\]', seen), seen


def test_a_monitor_of_what_the_node_does_not_know_fires(node):
    assert node.eval("gen_server:call(caller, monitor_unknown)") == "true"
    down = '[{<<"an_atom_that_no_node_knows_4712">>,noproc}]'
    wait_until(lambda: node.eval("gen_server:call(caller, events)") == down, 10)


def test_a_process_of_pythons_travels_as_its_proxy(machines):
    assert python(machines, "gen_fsm", "send_all_state_event", "lamp", "whereis(caller)")
    seen = machines.eval(
        "p1_fsm:sync_send_all_state_event(lamp, seen) =:= {off, [whereis(caller)]}"
    )
    assert seen == "true"
