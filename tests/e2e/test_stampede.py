"""Processes of every kind are killed all the time, and callers do not stop calling: nobody gets an
answer that was another's, and afterwards all is as it was."""

import asyncio
import json
import os
import re
import signal

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

#: Callers and the killer run at the node. A caller that gets what it should not ends with the
#: reason that `run` gives.
MODULE = """
-module(stampede).
-export([run/4, inventory/1]).

run(Names, Callers, Milliseconds, Pace) ->
    End = now_ms() + Milliseconds,
    Pids = [spawn_monitor(fun() -> exit(caller(Names, End, 0, 0)) end)
            || _ <- lists:seq(1, Callers)],
    Kills = killer(Names, End, Pace, #{}),
    Counts = [receive {'DOWN', Monitor, process, Pid, Reason} -> Reason end
              || {Pid, Monitor} <- Pids],
    case [Other || Other <- Counts, element(1, Other) =/= counted] of
        [] ->
            {counted, lists:sum([A || {_, A, _} <- Counts]), lists:sum([F || {_, _, F} <- Counts]),
             [maps:get(Kind, Kills, 0) || Kind <- [kill, raise, exit]]};
        Wrong ->
            {wrong, Wrong}
    end.

caller(Names, End, Answered, Failed) ->
    case now_ms() < End of
        false ->
            %% What comes now is nobody's.
            receive Stray -> {stray, Stray} after 1000 -> {counted, Answered, Failed} end;
        true ->
            Name = pick(Names),
            Number = erlang:unique_integer(),
            Kind = pick([now, later]),
            try gen_server:call(Name, {Kind, Number}, 30000) of
                Number -> caller(Names, End, Answered + 1, Failed);
                Answer -> {wrong_answer, Name, {Kind, Number}, Answer}
            catch
                exit:{Reason, {gen_server, call, [Name | _]}} ->
                    case is_expected(Reason) of
                        true ->
                            receive Stray -> {stray, Stray}
                            after 5 -> caller(Names, End, Answered, Failed + 1)
                            end;
                        false ->
                            {unexpected, Name, Reason}
                    end
            end
    end.

is_expected(noproc) -> true;
is_expected(killed) -> true;
is_expected(trampled) -> true;
is_expected(disconnected) -> true;
is_expected({{python_error, <<"ValueError">>, <<"on purpose">>}, _}) -> true;
is_expected(_) -> false.

killer(Names, End, Pace, Kills) ->
    case now_ms() < End of
        false ->
            Kills;
        true ->
            Kind = pick([kill, raise, exit]),
            Count = case whereis(pick(Names)) of
                        undefined -> 0;
                        Pid -> strike(Kind, Pid), 1
                    end,
            receive after Pace -> ok end,
            killer(Names, End, Pace, maps:update_with(Kind, fun(N) -> N + Count end, Count, Kills))
    end.

strike(kill, Pid) -> exit(Pid, kill);
strike(raise, Pid) -> gen_server:cast(Pid, raise);
strike(exit, Pid) -> exit(Pid, trampled).

pick(List) -> lists:nth(rand:uniform(length(List)), List).

now_ms() -> erlang:monotonic_time(millisecond).

%% What there is, as far as it is to be the same afterwards: processes by what they are, names, and
%% of each server its proxy's links and monitors.
inventory(Names) ->
    [{processes, count([kind(Pid) || Pid <- processes()])},
     {names, lists:sort(registered())},
     {proxies, [{Name, [proxy(Item, whereis(Name)) || Item <- [links, monitors, monitored_by]]}
                || Name <- Names]},
     {owner, proxy(monitors, whereis(megaphone_port))},
     {children, lists:sort(supervisor:count_children(megaphone_proxies))},
     {ports, length(erlang:ports())}].

proxy(_, undefined) -> undefined;
proxy(Item, Pid) ->
    case process_info(Pid, Item) of
        {Item, List} -> length(List);
        undefined -> undefined
    end.

kind(Pid) ->
    case process_info(Pid, [registered_name, initial_call, dictionary]) of
        [{registered_name, Name} | _] when is_atom(Name) -> Name;
        [_, {initial_call, Call}, {dictionary, Dictionary}] ->
            proplists:get_value('$initial_call', Dictionary, Call);
        undefined -> ended
    end.

count(List) ->
    lists:sort(maps:to_list(lists:foldl(fun(Key, Counts) ->
        maps:update_with(Key, fun(N) -> N + 1 end, 1, Counts)
    end, #{}, List))).
"""

#: What this test does on purpose, as the log says it.
EXPECTED = (
    r"\] servers: child stampede_\d+ ended: (killed|trampled|ValueError: on purpose)\n",
    r"\] gen_server stampede_\d+ terminating: ValueError: on purpose\\nTraceback",
    r"supervisor: \{local,megaphone_proxies\}\n.*child_terminated\n *reason: killed\n",
    r"\] worker cannot be kept running, trying on: ends by itself\n",
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
    source = tmp_path / "stampede.erl"
    source.write_text(MODULE)
    path = json.dumps(str(source))
    node.eval(
        f"begin {{ok, N, B}} = compile:file({path}, [binary, report_errors]),"
        f" {{module, N}} = code:load_binary(N, {path}, B), ok end",
        timeout=60,
    )
    attach(node, restart_intensity=50)
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
