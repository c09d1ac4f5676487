"""gen_servers in Python, as docs/servers.md shows them, called from Erlang on a real node."""

import asyncio
import os
import re
import signal
from pathlib import Path

import pytest

from tests.e2e.support import ENVIRONMENT, attach, connected, detach, status
from tests.support.logs import errors, log
from tests.support.processes import wait_until

ROOT = Path(__file__).parents[2]
PAGE, README = ROOT / "docs/servers.md", ROOT / "README.md"


def block(language, page=PAGE):
    found = re.search(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return found[1]


def session(page):
    """What is typed into a shell, and what it prints."""
    return re.findall(r"^\d+> (.*)\.\n(.*)$", block("erlang", page), re.MULTILINE)


#: A server that does what the page's does not.
STRANGE = """
import asyncio

from erlang_port.etf import Atom
from erlang_port.otp import gen_server
from erlang_port.otp.gen_server import GenServer, NoReply, Ok, Reply, Stop, StopReply
from erlang_port.otp.runtime import self


class Strange(GenServer):
    def init(self, args):
        return Ok({"events": [], "waiting": []})

    def handle_call(self, message, from_, state):
        match message:
            case "unknown_atom":
                return Reply(Atom("an_atom_that_no_node_has_ever_heard_of_4711"), state)
            case "large":
                return Reply(b"x" * 5_000_000, state)
            case "trap":
                self_().trap_exit = True
                return Reply(Atom("ok"), state)
            case "later":
                state["waiting"].append(from_)
                return NoReply(state)
            case "release":
                for waiting in state["waiting"]:
                    gen_server.reply(waiting, Atom("ok"))
                return Reply(len(state["waiting"]), state | {"waiting": []})
            case "events":
                return Reply(state["events"], state)
            case "raise":
                raise ValueError("on purpose")
            case "stop":
                return StopReply("normal", Atom("bye"), state)
            case ("monitor", target):
                self_().monitor(target)
                return Reply(Atom("ok"), state)
            case ("link", target):
                self_().link(target)
                return Reply(Atom("ok"), state)
            case "links":
                return Reply(len(self_().links), state)
            case ("ask", target, question):
                return self.ask(target, question, state)
            case ("wait", int(milliseconds)):
                return self.wait(milliseconds, state)
            case "note":
                return Reply(Atom("ok"), state | {"events": [*state["events"], b"noted"]})
            case "number":
                return Reply(len(state["events"]), state)
        return Reply(message, state)

    async def wait(self, milliseconds, state):
        await asyncio.sleep(milliseconds / 1000)
        return Reply(Atom("ok"), state)

    async def ask(self, target, question, state):
        try:
            answer = await gen_server.call(target, question, 1.0)
        except gen_server.Exit as error:
            answer = (Atom("exit"), error.reason)
        return Reply(answer, state)

    def handle_cast(self, message, state):
        return NoReply(state | {"events": [*state["events"], message]})

    def handle_info(self, info, state):
        match info:
            case ("DOWN", _, "process", target, reason):
                info = (Atom("down"), target, reason)
        return NoReply(state | {"events": [*state["events"], info]})


def self_():
    return self()
"""


@pytest.fixture(scope="module")
def node(start_session_node, tmp_path_factory):
    directory = tmp_path_factory.mktemp("servers")
    (directory / "shouter.py").write_text(block("python"))
    (directory / "strange.py").write_text(STRANGE)
    settings = directory / "megaphone.toml"
    settings.write_text(
        block("toml").replace("/etc/megaphone/servers", str(directory))
        + '\n[servers.strange]\nstart = "strange:Strange"\n'
        + '\n[servers.from_the_readme]\nstart = "shouter:Shouter"\n'
        + '\n[servers.everywhere]\nstart = "shouter:Shouter"\nscope = "global"\n'
    )
    node = start_session_node(environment={**ENVIRONMENT, "MEGAPHONE_CONFIG": str(settings)})
    attach(node, allowed_processes=["allowed"])
    wait_until(lambda: connected(node), 20)
    wait_until(lambda: node.eval("whereis(strange)") != "undefined", 10)
    wait_until(lambda: node.eval("global:whereis_name(everywhere)") != "undefined", 10)
    return node


def call(node, request, server="strange"):
    return node.eval(f"gen_server:call({server}, {request})")


def caught(node, expression):
    return node.eval(f"try {expression} catch C:R -> {{C, R}} end")


def test_the_session_of_the_page(node):
    assert len(session(PAGE)) >= 6
    for expression, shown in session(PAGE):
        assert node.eval(expression) == shown


def test_the_session_of_the_readme(node):
    assert len(session(README)) >= 2
    for expression, shown in session(README):
        assert node.eval(expression.replace("shouter", "from_the_readme")) == shown
    shown = block("python").splitlines()
    assert [line for line in block("python", README).splitlines() if line not in shown] == []


def test_by_global_name_and_by_pid(node):
    assert call(node, '{shout, <<"hi">>}', "{global, everywhere}") == '<<"HI">>'
    assert call(node, '{shout, <<"hi">>}', "global:whereis_name(everywhere)") == '<<"HI">>'


def test_an_answer_that_the_node_cannot_take_fails_its_own_caller_only(node):
    assert caught(node, "gen_server:call(strange, unknown_atom)").startswith("{exit,{{bad_reply,")
    assert call(node, "{still, here}") == "{still,here}"


def test_an_answer_that_no_frame_holds_fails_its_own_caller_only(node):
    before = status(node)["port"]["os_pid"]
    seen = caught(node, "gen_server:call(strange, large)")
    assert seen.startswith("{exit,{{too_large,5000006},{gen_server,call,")
    assert call(node, "{still, here}") == "{still,here}"
    assert status(node)["port"]["os_pid"] == before


def test_a_crash_carries_the_traceback_and_the_supervisor_restarts(node):
    pid = node.eval("whereis(strange)")
    seen = node.eval(
        "begin M = monitor(process, strange),"
        " X = (catch gen_server:call(strange, raise)),"
        " receive {'DOWN', M, _, _, R} -> {element(1, element(2, X)) =:= R, R}"
        " after 5000 -> late end end"
    )
    assert seen.startswith('{true,{{python_error,<<"ValueError">>,<<"on purpose">>},[<<')
    assert "strange.py" in seen
    wait_until(lambda: node.eval("whereis(strange)") not in {pid, "undefined"}, 10)
    assert call(node, "number") == "0"
    assert "ValueError: on purpose" in log(node)


def test_late_answers_go_to_their_callers(node):
    seen = node.eval(
        "begin Self = self(),"
        " Ps = [spawn(fun() -> Self ! {self(), gen_server:call(strange, later)} end)"
        "       || _ <- lists:seq(1, 20)],"
        " G = fun G([]) -> [];"
        "        G([P | T] = All) -> receive {P, A} -> [A | G(T)]"
        "                            after 20 -> gen_server:call(strange, release), G(All) end"
        "     end, G(Ps) end"
    )
    assert seen == f"[{','.join(['ok'] * 20)}]"


def test_links_monitors_and_exits_across_the_port(node):
    # Erlang's end of a link: trapped there, and what is sent to a process that traps.
    assert call(node, "trap") == "ok"
    node.eval("begin P = whereis(strange), spawn(fun() -> link(P), exit(gone) end), ok end")
    wait_until(lambda: "{'EXIT'," in call(node, "events"), 5)
    assert ",gone}" in call(node, "events")
    # Untrapped, the signal ends it.
    seen = node.eval(
        "begin process_flag(trap_exit, true), P = whereis(shouter), link(P), exit(P, stop_it),"
        " receive {'EXIT', P, R} -> R after 5000 -> late end end"
    )
    assert seen == "stop_it"
    wait_until(lambda: node.eval("whereis(shouter)") != "undefined", 10)
    # `kill` cannot be trapped.
    pid = node.eval("whereis(strange)")
    assert "killed" in node.eval(
        "begin M = monitor(process, strange), exit(whereis(strange), kill),"
        " receive {'DOWN', M, _, _, R} -> R after 5000 -> late end end"
    )
    wait_until(lambda: node.eval("whereis(strange)") not in {pid, "undefined"}, 10)


def test_python_monitors_and_calls_what_is_allowed(node):
    node.eval(
        "begin P = spawn(fun F() -> receive {'$gen_call', {C, [alias | T]}, Q} ->"
        " T ! {[alias | T], {answer, Q}}, _ = C, F(); stop -> exit(stopped) end end),"
        " register(allowed, P), ok end"
    )
    assert call(node, "{ask, allowed, hello}") == "{answer,hello}"
    assert call(node, "{monitor, allowed}") == "ok"
    node.eval("begin allowed ! stop, ok end")
    wait_until(lambda: "{down," in call(node, "events"), 5)
    assert ",stopped}" in call(node, "events")
    refused = call(node, "{ask, ejabberd_sm, hello}")
    assert refused.startswith("{exit,{{refused,")
    assert "ejabberd_sm" in log(node)


def test_a_link_of_pythons_is_gone_with_its_other_end_and_with_nothing_else(node):
    assert call(node, "trap") == "ok"
    # Its parent has one.
    links = int(call(node, "links"))
    node.eval(
        "begin P = spawn(fun F() -> receive {exit, R} -> exit(whereis(strange), R), F();"
        " stop -> exit(stopped_too) end end), register(allowed, P), ok end"
    )
    assert call(node, "{link, whereis(allowed)}") == "ok"
    node.eval("begin allowed ! {exit, by_hand}, ok end")
    wait_until(lambda: ",by_hand}" in call(node, "events"), 5)
    assert call(node, "links") == str(links + 1)
    node.eval("begin allowed ! stop, ok end")
    wait_until(lambda: ",stopped_too}" in call(node, "events"), 5)
    assert call(node, "links") == str(links)
    # What may not be linked to.
    assert call(node, "{link, whereis(ejabberd_sm)}") == "ok"
    wait_until(lambda: ",refused}" in call(node, "events"), 5)
    assert call(node, "links") == str(links)


def test_a_call_whose_time_is_over_is_not_begun(node):
    seen = node.eval(
        "begin R = gen_server:send_request(strange, {wait, 500}),"
        " X = (catch megaphone:call(strange, note, 50)),"
        " {reply, ok} = gen_server:wait_response(R, 5000),"
        " Y = megaphone:call(strange, events, 5000), {element(1, element(2, X)), Y} end"
    )
    assert seen.startswith("{timeout,")
    assert "noted" not in seen
    assert node.eval("megaphone:call(strange, note, 5000)") == "ok"
    assert "noted" in call(node, "events")


def test_sys_suspends_and_resumes(node):
    assert node.eval("sys:suspend(strange)") == "ok"
    assert caught(node, "gen_server:call(strange, number, 100)").startswith("{exit,{timeout,")
    assert "suspended" in node.eval("sys:get_status(strange)")
    assert node.eval("sys:resume(strange)") == "ok"
    assert call(node, "{still, here}") == "{still,here}"


async def test_all_is_there_again_after_the_program_died(node):
    before = status(node)["port"]["os_pid"]
    seen = asyncio.create_task(
        asyncio.to_thread(
            node.eval,
            "begin M = monitor(process, strange),"
            " X = (catch gen_server:call(strange, later, infinity)),"
            " receive {'DOWN', M, _, _, R} -> {R, element(1, element(2, X))}"
            " after 9000 -> late end end",
        )
    )
    monitored = "length(element(2, process_info(whereis(strange), monitored_by)))"
    await asyncio.to_thread(wait_until, lambda: int(node.eval(monitored)) > 2, 5)
    os.kill(before, signal.SIGKILL)
    assert await seen == "{disconnected,disconnected}"
    await asyncio.to_thread(wait_until, lambda: node.eval("whereis(strange)") != "undefined", 20)
    assert call(node, "{back, again}") == "{back,again}"


def test_nothing_is_left_after_detach(node):
    assert [entry for entry in errors(log(node)) if "CRASH REPORT" in entry] == []
    detach(node)
    assert node.eval("[whereis(N) || N <- [shouter, strange]]") == "[undefined,undefined]"
    assert node.eval("global:whereis_name(everywhere)") == "undefined"
