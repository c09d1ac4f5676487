%% Hosts and sessions without an ejabberd: ejabberd's session table, and processes that keep what
%% reaches them.
-module(people_standin).

-export([start/1, stop/0, open/3, open_dead/3, open_elsewhere/3, received/1, routed/0, gate/1, pass/0, without_module/1]).

-include_lib("stdlib/include/ms_transform.hrl").
-include("xmpp.hrl").
-include("ejabberd_sm.hrl").

start(Hosts) ->
    %% Debian's applications have names of their own.
    _ = [application:ensure_all_started(Name) || Name <- [p1_stringprep, stringprep]],
    ok = jid:start(),
    session = ets:new(session, [named_table, public, set, {keypos, #session.sid}]),
    ?MODULE = ets:new(?MODULE, [named_table, public, duplicate_bag]),
    %% lookup_element of a duplicate_bag gives all values.
    true = ets:insert(?MODULE, [{hosts, Host} || Host <- Hosts]),
    megaphone_test:standin(
      "-module(ejabberd_option).\n"
      "hosts() -> ets:lookup_element(people_standin, hosts, 2).\n"
      "sm_db_type(<<\"sql.test\">>) -> sql;\n"
      "sm_db_type(_) -> mnesia.\n"
      "modules(_) -> [].\n"),
    megaphone_test:standin(
      "-module(ejabberd_router).\n"
      "is_my_route(Host) -> lists:member(Host, ejabberd_option:hosts()).\n"
      "route(Message) -> ok = people_standin:pass(), ets:insert(people_standin, {routed, Message}), ok.\n"),
    %% Where the module runs: everywhere, unless there is a row that says otherwise.
    megaphone_test:standin(
      "-module(gen_mod).\n"
      "is_loaded(Host, mod_megaphone) -> not ets:member(people_standin, {without, Host}).\n"),
    ok.

%% A vhost of which the modules are its own, without mod_megaphone.
without_module(Host) ->
    true = ets:insert(?MODULE, {{without, Host}}),
    ok.

stop() ->
    _ = [exit(Pid, kill) || #session{sid = {_, Pid}} <- ets:tab2list(session), node(Pid) =:= node()],
    true = ets:delete(session),
    true = ets:delete(?MODULE),
    megaphone_test:remove_standin(ejabberd_option),
    megaphone_test:remove_standin(ejabberd_router),
    megaphone_test:remove_standin(gen_mod).

open(User, Server, Resource) ->
    insert(User, Server, Resource, spawn(fun() -> keep([]) end)).

%% As a process that was killed leaves its row.
open_dead(User, Server, Resource) ->
    {Pid, Monitor} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Monitor, process, Pid, _} -> insert(User, Server, Resource, Pid) end.

%% On another node of a cluster.
open_elsewhere(User, Server, Resource) ->
    Pid = binary_to_term(<<131, 88, 119, 7, "x@other", 1:32, 0:32, 1:32>>),
    insert(User, Server, Resource, Pid).

insert(User, Server, Resource, Pid) ->
    true = ets:insert(session, #session{sid = {erlang:unique_integer([monotonic]), Pid},
                                        usr = {User, Server, Resource}, us = {User, Server},
                                        priority = 0}),
    Pid.

%% What the router is to do: open, hold (until it is open again) or crash.
gate(What) ->
    true = ets:delete(?MODULE, gate),
    true = ets:insert(?MODULE, {gate, What}),
    ok.

pass() ->
    case ets:lookup(?MODULE, gate) of
        [{gate, hold}] -> receive after 5 -> pass() end;
        [{gate, crash}] -> crash;
        _ -> ok
    end.

received(Pid) ->
    Pid ! {received, self()},
    receive {Pid, Messages} -> Messages after 5000 -> error(timeout) end.

routed() ->
    [Message || {routed, Message} <- ets:lookup(?MODULE, routed)].

keep(Messages) ->
    receive
        {route, Message} -> keep([Message | Messages]);
        {received, From} -> From ! {self(), lists:reverse(Messages)}, keep(Messages)
    end.
