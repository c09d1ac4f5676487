%% What the tests of Python processes use: the tree that they need, with a program whose processes
%% do what the request of a call says.
-module(proxy_test).

-export([connected/2, connected/3, start/1, start/2, ask/2, seen/1, do/2, finish/2, ended/1, option/2]).

-define(LATER, 10000).

%% A test with a connected program; its own processes end with it.
connected(Changes, Fun) ->
    connected(#{}, Changes, Fun).

%% Options of the module, read while it runs, and those of the port.
connected(Options, Changes, Fun) ->
    {timeout, 60,
     fun() ->
             process_flag(trap_exit, true),
             ok = megaphone_names:start(),
             Defaults = maps:from_list(mod_megaphone:mod_options(<<>>)),
             persistent_term:put({mod_megaphone, options}, maps:merge(Defaults, Options)),
             megaphone_test:with_log(fun() -> run(Changes, Fun) end),
             persistent_term:erase({mod_megaphone, options}),
             process_flag(trap_exit, false)
     end}.

run(Changes, Fun) ->
    {ok, _} = megaphone_proxies:start_link(),
    {ok, Port} = megaphone_port:start_link(megaphone_test:options("answers", Changes)),
    megaphone_test:until(fun() -> maps:get(<<"state">>, megaphone_port:status()) =:= <<"connected">> end),
    try Fun(Port)
    after
        [begin unlink(Pid), exit(Pid, shutdown), ended(Pid) end || Pid <- [Port, whereis(megaphone_proxies)]],
        undefined = whereis(megaphone_port)
    end.

option(Name, Value) ->
    Options = persistent_term:get({mod_megaphone, options}),
    persistent_term:put({mod_megaphone, options}, Options#{Name := Value}).

ended(Pid) ->
    Ref = monitor(process, Pid),
    receive {'DOWN', Ref, process, _, Reason} -> Reason after ?LATER -> error(still_there) end.

start(Process) ->
    start(Process, []).

start(Process, Names) ->
    ask(<<"processes">>, {start, Process, Names}).

%% What the node answers to a call of the program's.
ask(Name, Request) ->
    {ok, {Outcome, Binary}} = megaphone_port:call(<<"ask">>, {Name, Request}, ?LATER),
    {Outcome, binary_to_term(Binary)}.

%% What the process has received, oldest first.
seen(Proxy) ->
    gen_server:call(Proxy, seen, ?LATER).

%% Has the process make signals.
do(Proxy, Signals) ->
    true = gen_server:call(Proxy, {do, Signals}, ?LATER).

%% Has the process end, which it may before its answer is here.
finish(Proxy, Reason) ->
    megaphone_test:caught(fun() -> do(Proxy, [{exit, 0, Reason}]) end).
