-module(megaphone_proxy_tests).

-include_lib("eunit/include/eunit.hrl").

-define(LATER, 10000).

with(Fun) ->
    with(#{}, Fun).

with(Options, Fun) ->
    proxy_test:connected(Options, #{heartbeat_timeout => 60000},
                         fun(Port) ->
                                 {ok, Proxy} = proxy_test:start(1),
                                 Fun(Port, Proxy)
                         end).

call(Proxy, Request) ->
    gen_server:call(Proxy, Request, ?LATER).

%% A call in a process of its own, which tells how it ended.
caller(Proxy, Request) ->
    caller(Proxy, Request, infinity).

caller(Proxy, Request, Timeout) ->
    Call = fun() -> gen_server:call(Proxy, Request, Timeout) end,
    {Pid, _} = spawn_monitor(fun() -> exit({ended, megaphone_test:caught(Call)}) end),
    %% It has sent its request once it waits, and not for code to be loaded.
    megaphone_test:until(fun() ->
                                 case process_info(Pid, [status, monitors]) of
                                     [{status, Status}, {monitors, Monitors}] ->
                                         Status =:= waiting andalso lists:member({process, who(Proxy)}, Monitors);
                                     undefined -> true
                                 end
                         end),
    Pid.

who(Name) when is_atom(Name) -> whereis(Name);
who(Pid) -> Pid.

result(Caller) ->
    receive {'DOWN', _, process, Caller, {ended, Result}} -> Result after ?LATER -> error(late) end.

seen(Proxy) ->
    [{Kind, Term} || {Kind, _, Term} <- proxy_test:seen(Proxy)].

every_kind_of_request_test_() ->
    with(fun(_, Proxy) ->
        Self = self(),
        ?assertEqual({call, Self, [1, <<"a">>], infinity}, call(Proxy, [1, <<"a">>])),
        gen_server:cast(Proxy, {a, cast}),
        gen_fsm_send(Proxy, '$gen_event', an_event),
        gen_fsm_send(Proxy, '$gen_all_state_event', another),
        Proxy ! {any, self()},
        ?assertEqual([{cast, {a, cast}}, {event, an_event}, {all_event, another}, {info, {any, Self}}],
                     seen(Proxy)),
        ?assertEqual({ok, {sync_event, Self, e, infinity}}, gen:call(Proxy, '$gen_sync_event', e, ?LATER)),
        ?assertEqual({ok, {sync_all_event, Self, e, infinity}},
                     gen:call(Proxy, '$gen_sync_all_state_event', e, ?LATER)),
        ?assertEqual({call, Self, statem, infinity}, gen_statem:call(Proxy, statem, {dirty_timeout, ?LATER})),
        ?assertMatch({ok, {system, Self, get_state, _}}, gen:call(Proxy, system, get_state, ?LATER)),
        ?assertMatch({system, Self, {debug, no_debug}, _}, sys:no_debug(Proxy))
    end).

gen_fsm_send(Proxy, Label, Event) -> Proxy ! {Label, Event}.

%% Whatever a tag looks like, it comes back as it went.
tags_are_opaque_test_() ->
    with(fun(_, Proxy) ->
        [begin
             Proxy ! {'$gen_call', {self(), Tag}, {hold, Tag}},
             gen_server:cast(Proxy, release),
             receive {Tag, Reply} -> ?assertEqual(Tag, Reply) after ?LATER -> error(late) end
         end || Tag <- [make_ref(), {a, make_ref()}, [list | tail]]]
    end).

%% The first to ask is the last to be answered.
out_of_order_test_() ->
    with(fun(_, Proxy) ->
        Callers = [{N, caller(Proxy, {hold, N})} || N <- lists:seq(1, 50)],
        megaphone_test:until(fun() -> {monitored_by, All} = process_info(Proxy, monitored_by),
                                      length(All) >= 51 end),
        _ = proxy_test:seen(Proxy),
        gen_server:cast(Proxy, release),
        [?assertEqual(N, result(Caller)) || {N, Caller} <- Callers]
    end).

an_undecodable_reply_fails_its_own_caller_only_test_() ->
    with(fun(_, Proxy) ->
        Other = caller(Proxy, {hold, other}),
        ?assertExit({{bad_reply, not_a_term}, {gen_server, call, _}}, call(Proxy, garbage)),
        gen_server:cast(Proxy, release),
        ?assertEqual(other, result(Other))
    end).

refuse_test_() ->
    with(fun(_, Proxy) ->
        ?assertExit({{not_today, 1}, {gen_server, call, _}}, call(Proxy, {refuse, {not_today, 1}})),
        ?assertMatch({call, _, still, _}, call(Proxy, still))
    end).

too_many_calls_test_() ->
    with(#{max_calls => 3}, fun(_, Proxy) ->
        Held = [caller(Proxy, {hold, N}) || N <- [1, 2, 3]],
        megaphone_test:until(fun() -> length(element(2, process_info(Proxy, monitored_by))) >= 4 end),
        ?assertExit({overload, {gen_server, call, _}}, call(Proxy, one_more)),
        %% Callers that have given up make room, though Python never answers.
        [exit(Caller, kill) || Caller <- Held],
        [receive {'DOWN', _, process, Caller, killed} -> ok end || Caller <- Held],
        megaphone_test:until(fun() -> length(element(2, process_info(Proxy, monitored_by))) < 4 end),
        ?assertMatch({call, _, one_more, _}, call(Proxy, one_more))
    end).

too_large_test_() ->
    with(fun(_, Proxy) ->
        Large = binary:copy(<<"x">>, 4194304),
        ?assertExit({{too_large, _}, {gen_server, call, _}}, call(Proxy, Large)),
        Proxy ! Large,
        gen_server:cast(Proxy, small),
        ?assertEqual([{cast, small}], seen(Proxy)),
        megaphone_test:until(fun() -> [] =/= megaphone_test:logged(
                                               "process 1: 1 messages were dropped: no frame holds them") end)
    end).

%% More than one request's worth at once, and all of it in order.
large_turns_test_() ->
    with(fun(Port, Proxy) ->
        ok = sys:suspend(Port),
        Body = binary:copy(<<"x">>, 60000),
        [gen_server:cast(Proxy, {N, Body}) || N <- lists:seq(1, 50)],
        ok = sys:resume(Port),
        ?assertEqual([{cast, {N, Body}} || N <- lists:seq(1, 50)], seen(Proxy))
    end).

a_caller_that_gave_up_test_() ->
    with(fun(Port, Proxy) ->
        ok = sys:suspend(Port),
        %% This one is on its way: the proxy waits for the owner.
        First = caller(Proxy, first),
        megaphone_test:until(fun() -> {current_function, {gen, do_call, 4}} =:=
                                          process_info(Proxy, current_function) end),
        ?assertExit({timeout, _}, gen_server:call(Proxy, mute, 30)),
        Gone = caller(Proxy, mute),
        exit(Gone, kill),
        Last = caller(Proxy, last),
        ok = sys:resume(Port),
        ?assertMatch({call, First, first, infinity}, result(First)),
        ?assertMatch({call, Last, last, infinity}, result(Last)),
        ?assertEqual([], seen(Proxy))
    end).

exit_signals_test_() ->
    with(fun(_, Proxy) ->
        Self = self(),
        true = link(Proxy),
        [exit(Proxy, Reason) || Reason <- [normal, shutdown, {a, b}]],
        ?assertEqual([{exit, {Self, R}} || R <- [normal, shutdown, {a, b}]], seen(Proxy)),
        %% A process that was linked to it ends.
        {Linked, _} = spawn_monitor(fun() -> link(Proxy), exit(its_own) end),
        receive {'DOWN', _, process, Linked, its_own} -> ok end,
        megaphone_test:until(fun() -> lists:last(seen(Proxy)) =:= {exit, {Linked, its_own}} end)
    end).

%% A link that Python made is gone with its other end; exit/2 leaves it, and so does who only unlinks.
links_test_() ->
    with(fun(_, Proxy) ->
        [{ok, One}, {ok, Two}] = [proxy_test:start(N) || N <- [2, 3]],
        proxy_test:do(Proxy, [{link, 0, One}, {link, 0, Two}, {link, 0, Proxy}]),
        exit(Proxy, not_linked),
        proxy_test:do(One, [{exit_signal, 0, {Proxy, by_hand}}]),
        proxy_test:do(Proxy, [{unlink, 0, Two}]),
        [proxy_test:finish(Other, its_end) || Other <- [One, Two]],
        megaphone_test:until(fun() -> length(seen(Proxy)) >= 3 end),
        ?assertEqual([{exit, {self(), not_linked}}, {exit, {One, by_hand}}, {link_exit, {One, its_end}}],
                     seen(Proxy)),
        %% Who has ended already, and is no proxy any more.
        proxy_test:option(allowed_processes, all),
        proxy_test:do(Proxy, [{link, 0, One}]),
        megaphone_test:until(fun() -> lists:last(seen(Proxy)) =:= {link_exit, {One, noproc}} end)
    end).

killed_test_() ->
    with(fun(_, Proxy) ->
        {ok, Other} = proxy_test:start(2),
        Waits = caller(Proxy, mute),
        megaphone_test:until(fun() -> seen(Proxy) =/= [] end),
        exit(Proxy, kill),
        ?assertMatch({'EXIT', {killed, _}}, result(Waits)),
        %% Python is told, in the name of the process that is gone.
        megaphone_test:until(fun() -> 1 =:= maps:get(<<"processes">>, megaphone_port:status()) end),
        ?assertEqual([], seen(Other)),
        {ok, Again} = proxy_test:start(1),
        ?assertEqual([{gone, killed}], [S || S = {Kind, _} <- seen(Again), Kind =/= call])
    end).

%% Links and monitors see the reason as Python gave it; nothing of it is in the log.
ends_test_() ->
    [with(fun(_, Proxy) ->
         true = link(Proxy),
         Ref = monitor(process, Proxy),
         Caller = caller(Proxy, mute),
         proxy_test:seen(Proxy),
         proxy_test:finish(Proxy, Reason),
         receive {'EXIT', Proxy, Linked} -> ?assertEqual(Reason, Linked) after ?LATER -> error(late) end,
         receive {'DOWN', Ref, process, Proxy, Down} -> ?assertEqual(Reason, Down) end,
         ?assertMatch({'EXIT', {Reason, _}}, result(Caller)),
         megaphone_test:until(fun() -> 0 =:= maps:get(<<"processes">>, megaphone_port:status()) end),
         ?assertEqual(0, proplists:get_value(active, supervisor:count_children(megaphone_proxies))),
         ?assertEqual([], megaphone_test:logged("a secret")),
         %% To exit with `kill` takes an exit of proc_lib's.
         ?assert(Reason =:= kill orelse [] =:= megaphone_test:logged("megaphone_proxy")),
         %% Its number is free of it: nothing more is said about the end.
         {ok, Again} = proxy_test:start(1),
         ?assertEqual([], [S || S = {gone, _} <- seen(Again)])
     end) || Reason <- [normal, shutdown, {shutdown, 1}, {crash, <<"a secret">>}, kill]].

an_undecodable_reason_test_() ->
    with(fun(_, Proxy) ->
        Ref = monitor(process, Proxy),
        megaphone_test:caught(fun() -> call(Proxy, {raw, exit, <<131, 119, 9, "zzqzzqzzq">>}) end),
        receive {'DOWN', Ref, process, Proxy, Reason} -> ?assertEqual({bad_reason, not_a_term}, Reason) end
    end).

%% Nobody has a name that is no atom here.
a_monitor_that_the_node_cannot_decode_test_() ->
    with(fun(_, Proxy) ->
        true = call(Proxy, {raw, monitor, <<131, 119, 9, "zzqzzqzzr">>}),
        megaphone_test:until(fun() -> lists:member({down, 0, {undefined, noproc}}, proxy_test:seen(Proxy)) end)
    end).

%% Whoever waits, waits no longer.
disconnected_test_() ->
    proxy_test:connected(#{}, #{}, fun(_) ->
        {ok, Proxy} = proxy_test:start(1, [{local, <<"a_name">>}]),
        Ref = monitor(process, Proxy),
        Caller = caller(a_name, mute),
        proxy_test:seen(Proxy),
        {error, disconnected} = megaphone_port:call(<<"exit">>, 1, ?LATER),
        ?assertMatch({'EXIT', {disconnected, _}}, result(Caller)),
        receive {'DOWN', Ref, process, Proxy, Reason} -> ?assertEqual(disconnected, Reason) end,
        ?assertEqual(undefined, whereis(a_name))
    end).

the_owner_ends_test_() ->
    with(fun(Port, Proxy) ->
        ok = sys:suspend(Port),
        Waits = caller(Proxy, mute),
        exit(Port, kill),
        ?assertMatch({'EXIT', {disconnected, _}}, result(Waits)),
        %% The port's end is its program's.
        ?assertEqual(noproc, proxy_test:ended(Proxy))
    end).

monitors_test_() ->
    with(fun(_, Proxy) ->
        {ok, Other} = proxy_test:start(2, [{local, <<"other">>}, {global, <<"other">>}]),
        proxy_test:do(Proxy, [{monitor, 7, Other}, {monitor, 8, other}, {monitor, 9, {global, other}},
                              {monitor, 10, other}, {monitor, 11, nobody_has_this_name}, {demonitor, 10, []}]),
        proxy_test:finish(Other, done),
        megaphone_test:until(fun() -> length(proxy_test:seen(Proxy)) =:= 4 end),
        ?assertEqual([{down, 7, {Other, done}}, {down, 8, {other, done}}, {down, 9, {{global, other}, done}},
                      {down, 11, {nobody_has_this_name, refused}}],
                     lists:sort(proxy_test:seen(Proxy)))
    end).

%% Its callers are its own to send to, link to and monitor; nobody else is, unless it is a proxy.
reach_test_() ->
    with(fun(_, Proxy) ->
        {ok, Other} = proxy_test:start(2),
        Self = self(),
        proxy_test:do(Proxy, [{send, 0, {Self, hello}}, {link, 0, Self}, {unlink, 0, Self}, {link, 0, Self},
                              {send, 0, {Other, a}}, {cast, 0, {Other, b}}, {exit_signal, 0, {Other, c}}]),
        receive hello -> ok after ?LATER -> error(late) end,
        {links, Links} = process_info(Proxy, links),
        ?assert(lists:member(Self, Links)),
        megaphone_test:until(fun() -> length(seen(Other)) =:= 3 end),
        ?assertEqual([{info, a}, {cast, b}, {exit, {Proxy, c}}], seen(Other)),

        Stranger = spawn(fun() -> receive stop -> ok end end),
        true = register(a_stranger, Stranger),
        ?assertEqual([], megaphone_test:logged("was refused")),
        proxy_test:do(Proxy, [{send, 0, {Stranger, stop}}]),
        megaphone_test:until(fun() -> megaphone_test:logged("was refused") =/= [] end),
        ?assertMatch([{warning, "megaphone[processes] process 1: its send was refused: allowed_processes does not allow <" ++ _}],
                     megaphone_test:logged("was refused")),
        proxy_test:do(Proxy, [{send, 0, {a_stranger, stop}}, {cast, 0, {Self, no}}, {exit_signal, 0, {Self, no}},
                              {exit_signal, 0, {Stranger, kill}}, {monitor, 5, Stranger}, {link, 0, nonsense},
                              {send, 0, nonsense}, {unlink, 0, whereis(megaphone_proxies)}]),
        ?assert(is_process_alive(Stranger)),
        [?assert(lists:member(Told, proxy_test:seen(Proxy)))
         || Told <- [{down, 5, {Stranger, refused}}, {link_exit, 0, {nonsense, refused}}]],
        %% One line a second.
        ?assert(length(megaphone_test:logged("was refused")) =< 2),

        proxy_test:option(allowed_processes, [a_stranger]),
        proxy_test:do(Proxy, [{monitor, 6, Stranger}, {send, 0, {a_stranger, stop}}]),
        megaphone_test:until(fun() -> lists:member({down, 6, {Stranger, normal}}, proxy_test:seen(Proxy)) end),
        true = unlink(Proxy)
    end).

%% What waits while a frame is written travels in the next one, whosever it is.
one_frame_test_() ->
    with(fun(_, Proxy) ->
        Others = [begin {ok, Other} = proxy_test:start(N), Other end || N <- lists:seq(2, 20)],
        [Writer] = writer(),
        true = erlang:suspend_process(Writer),
        gen_server:cast(Proxy, first),
        megaphone_test:until(fun() -> {message_queue_len, 0} =/= process_info(Writer, message_queue_len) end),
        Callers = [caller(Other, a) || Other <- [Proxy | Others]],
        [gen_server:cast(Other, b) || Other <- Others],
        timer:sleep(100),
        true = erlang:resume_process(Writer),
        [?assertMatch({call, Caller, a, _}, result(Caller)) || Caller <- Callers],
        Frames = call(Proxy, frames),
        ?assert(lists:member(39, Frames))
    end).

writer() ->
    {links, Links} = process_info(whereis(megaphone_port), links),
    [Pid || Pid <- Links, is_pid(Pid), process_info(Pid, current_function) =:= {current_function, {megaphone_writer, loop, 2}}].

%% The program reads nothing: the owner holds a bounded part of a flood, and its mailbox nothing.
flood_test_() ->
    with(fun(Port, Proxy) ->
        OsPid = maps:get(<<"os_pid">>, megaphone_port:status()),
        [] = os:cmd("kill -STOP " ++ integer_to_list(OsPid)),
        Body = binary:copy(<<"x">>, 1000),
        [spawn(fun() -> [gen_server:cast(Proxy, {N, Body}) || N <- lists:seq(1, 15000)] end) || _ <- [1, 2]],
        [begin
             timer:sleep(20),
             {message_queue_len, Length} = process_info(Port, message_queue_len),
             ?assert(Length < 10)
         end || _ <- lists:seq(1, 50)],
        ?assert(maps:get(<<"queued_bytes">>, megaphone_port:status()) < 2 * 1048576),
        [] = os:cmd("kill -CONT " ++ integer_to_list(OsPid)),
        gen_server:cast(Proxy, last),
        ?assertMatch({call, _, ping, _}, gen_server:call(Proxy, ping, 30000))
    end).

%% Neither a crash nor a status shows what a message held.
nothing_is_shown_test_() ->
    with(fun(_, Proxy) ->
        Secret = <<"a body that nobody may read">>,
        persistent_term:erase({mod_megaphone, options}),
        %% Without an option the next turn crashes.
        persistent_term:put({mod_megaphone, options}, #{}),
        Proxy ! {'$gen_call', {self(), make_ref()}, Secret},
        _ = proxy_test:ended(Proxy),
        megaphone_test:until(fun() -> megaphone_test:logged("megaphone_proxy") =/= [] end),
        ?assertEqual([], megaphone_test:logged(Secret))
    end).

throughput_test_() ->
    with(fun(_, Proxy) ->
        Self = self(),
        Count = 20,
        Callers = [spawn_link(fun() -> [gen_server:call(Proxy, N, ?LATER) || N <- lists:seq(1, Count)],
                                       Self ! {self(), done} end) || _ <- lists:seq(1, 500)],
        Started = erlang:monotonic_time(millisecond),
        [receive {Caller, done} -> ok after 30000 -> error(late) end || Caller <- Callers],
        Ms = erlang:monotonic_time(millisecond) - Started,
        %% A thousandth of what it does on an idle machine would be a bug.
        ?assert(Ms < 20000),
        [receive {'EXIT', Caller, normal} -> ok end || Caller <- Callers]
    end).
