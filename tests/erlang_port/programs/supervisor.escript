#!/usr/bin/env escript
%%! -noshell +S 1:1
%% Runs scenarios with OTP's supervisor and prints what was seen, as one base64 line. The scenarios,
%% and what is seen of them, are those of supervisor_scenarios.py; supervisor_runs.py does the same.
%% One scheduler: so what one process sees first, the others do.
-mode(compile).
-export([init/1, start_child/2]).

main([Encoded]) ->
    logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    Scenarios = binary_to_term(base64:decode(Encoded)),
    Seen = [run(Scenario) || Scenario <- Scenarios],
    io:format("~ts~n", [base64:encode(term_to_binary(Seen))]).

run(#{flags := Flags, children := Children, steps := Steps}) ->
    register(collector, spawn_link(fun() -> collect(#{}, #{}, #{}, []) end)),
    Simple = maps:get(strategy, Flags, one_for_one) =:= simple_one_for_one,
    Fail = [How || {fail, _, _} = How <- Steps, How =:= hd(Steps)],
    [ask(How) || How <- Fail],
    Started = supervisor:start_link(?MODULE, {Flags, [spec(Child) || Child <- Children]}),
    Seen = case Started of
               {ok, Sup} ->
                   Monitor = monitor(process, Sup),
                   [seen(Sup, Simple, started) | steps(Sup, Monitor, Simple, Steps -- Fail)];
               {error, Reason} ->
                   [{{error, named(Reason)}, ask(events), []}]
           end,
    Collector = whereis(collector),
    unlink(Collector),
    exit(Collector, kill),
    _ = [receive {'EXIT', Sup1, _} -> ok after 1000 -> no_exit end || {ok, Sup1} <- [Started]],
    wait(fun() -> whereis(collector) =:= undefined end),
    Seen.

init(Init) ->
    {ok, Init}.

spec(#{id := Id, kind := Kind} = Child) ->
    (maps:remove(kind, Child))#{start => {?MODULE, start_child, [Id, Kind]}, modules => [m]}.

%% Steps.

steps(Sup, Monitor, _, []) ->
    exit(Sup, shutdown),
    Reason = receive {'DOWN', Monitor, process, Sup, R} -> R end,
    [{{down, Reason}, ask(events), []}];
steps(Sup, Monitor, Simple, [Step | Steps]) ->
    Result = step(Sup, Step),
    settle(Sup),
    case is_process_alive(Sup) of
        true ->
            [seen(Sup, Simple, Result) | steps(Sup, Monitor, Simple, Steps)];
        false ->
            Reason = receive {'DOWN', Monitor, process, Sup, R} -> R end,
            [{{Result, down, Reason}, ask(events), []} | [{step(Sup, S), [], []} || S <- Steps]]
    end.

step(_, {fail, _, _} = Fail) ->
    ask(Fail);
step(Sup, {call, Request}) ->
    try named(gen_server:call(Sup, request(Request), infinity))
    catch exit:{Reason, {gen_server, call, _}} -> {exit, Reason}
    end;
step(Sup, {'end', Name, Reason}) ->
    case is_process_alive(Sup) of
        true ->
            Pid = ask({pid, Name}),
            Pid ! {'end', Reason},
            wait(fun() -> not is_process_alive(Pid) end),
            wait(fun() -> not lists:keymember(Pid, 2, children(Sup)) end);
        false ->
            ok
    end.

request({start_child, #{} = Child}) -> {start_child, spec(Child)};
request({What, {child, Name}}) -> {What, ask({pid, Name})};
request(Request) -> Request.

settle(Sup) ->
    wait(fun() -> not lists:keymember(restarting, 2, children(Sup)) end).

children(Sup) ->
    try gen_server:call(Sup, which_children, infinity)
    catch exit:_ -> []
    end.

wait(Done) ->
    case Done() of
        true -> ok;
        false -> receive after 1 -> wait(Done) end
    end.

seen(Sup, Simple, Result) ->
    Children = named(children(Sup)),
    Events = ask(events),
    case Simple of
        true -> {Result, Events, lists:sort(Children)};
        false -> {Result, Events, Children}
    end.

%% Pids become {child, {Id, N}}: the N-th start of that child; what is started is `mfa`.
named(Pid) when is_pid(Pid) -> {child, ask({name, Pid})};
named({child, Pid, Id, _, Restart, Significant, Shutdown, Type, Modules}) ->
    {child, Pid, Id, mfa, Restart, Significant, Shutdown, Type, Modules};
named(Tuple) when is_tuple(Tuple) -> list_to_tuple(named(tuple_to_list(Tuple)));
named([Head | Tail]) -> [named(Head) | named(Tail)];
named(#{start := _} = Spec) -> Spec#{start := mfa};
named(Term) -> Term.

%% Children.

start_child(Id, Kind) ->
    case ask({starting, Id}) of
        ok ->
            Pid = spawn_link(fun() -> child(Kind) end),
            ask({started, Id, Pid}),
            {ok, Pid};
        {error, Reason} -> {error, Reason};
        {exit, Reason} -> exit(Reason);
        ignore -> ignore
    end.

child(plain) ->
    receive {'end', Reason} -> exit(Reason) end;
child(trapping) ->
    process_flag(trap_exit, true),
    receive
        {'EXIT', _, Reason} -> exit(Reason);
        {'end', Reason} -> exit(Reason)
    end;
child(deaf) ->
    process_flag(trap_exit, true),
    child_deaf().

child_deaf() ->
    receive
        {'end', Reason} -> exit(Reason);
        _ -> child_deaf()
    end.

%% The collector: who started, how often, and who ended, in that order.

ask(What) ->
    Reference = make_ref(),
    collector ! {ask, self(), Reference, What},
    receive {Reference, Answer} -> Answer end.

collect(Counts, Names, Fails, Events) ->
    receive
        {ask, From, Reference, What} ->
            {Answer, Counts1, Names1, Fails1, Events1} = answer(What, Counts, Names, Fails, Events),
            From ! {Reference, Answer},
            collect(Counts1, Names1, Fails1, Events1);
        {'DOWN', _, process, Pid, Reason} ->
            collect(Counts, Names, Fails, [{down, maps:get(Pid, Names), Reason} | Events])
    end.

answer({fail, Id, Hows}, Counts, Names, Fails, Events) ->
    {ok, Counts, Names, Fails#{Id => Hows}, Events};
answer({starting, Id}, Counts, Names, Fails, Events) ->
    case Fails of
        #{Id := [How | Hows]} -> {How, Counts, Names, Fails#{Id := Hows}, [{failed, Id} | Events]};
        #{} -> {ok, Counts, Names, Fails, Events}
    end;
answer({started, Id, Pid}, Counts, Names, Fails, Events) ->
    N = maps:get(Id, Counts, 0) + 1,
    monitor(process, Pid),
    {ok, Counts#{Id => N}, Names#{Pid => {Id, N}}, Fails, [{started, {Id, N}} | Events]};
answer({pid, Name}, Counts, Names, Fails, Events) ->
    [Pid] = [P || {P, N} <- maps:to_list(Names), N =:= Name],
    {Pid, Counts, Names, Fails, Events};
answer({name, Pid}, Counts, Names, Fails, Events) ->
    {maps:get(Pid, Names, unknown), Counts, Names, Fails, Events};
answer(events, Counts, Names, Fails, Events) ->
    {lists:reverse(Events), Counts, Names, Fails, []}.
