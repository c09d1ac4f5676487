-module(megaphone_port_tests).

-include_lib("eunit/include/eunit.hrl").

-define(LATER, 10000).

start(Program, Changes) ->
    {ok, Pid} = megaphone_port:start_link(megaphone_test:options(Program, Changes)),
    Pid.

stop(Pid) ->
    unlink(Pid),
    Ref = monitor(process, Pid),
    exit(Pid, shutdown),
    receive {'DOWN', Ref, process, Pid, _} -> ok after 8000 -> error(still_there) end.

state() ->
    maps:get(<<"state">>, megaphone_port:status()).

until_state(State) ->
    megaphone_test:until(fun() -> state() =:= State end).

status(Key) ->
    maps:get(Key, megaphone_port:status()).

%% SIGKILL has been sent; the kernel may take a moment to carry it out.
gone(Group) ->
    megaphone_test:until(fun() -> megaphone_test:group_is_gone(Group) end, 2000).

call(Name, Request) ->
    megaphone_port:call(Name, Request, ?LATER).

%% A test with a program, connected or not, and every line of the log kept.
with(Program, Changes, Fun) ->
    {timeout, 60,
     fun() ->
             process_flag(trap_exit, true),
             megaphone_test:with_log(
               fun() ->
                       Pid = start(Program, Changes),
                       try Fun(Pid)
                       after
                           Group = status(<<"os_pid">>),
                           stop(Pid),
                           true = Group =:= undefined orelse gone(Group),
                           process_flag(trap_exit, false)
                       end
               end)
     end}.

connected(Changes, Fun) ->
    with("answers", Changes, fun(Pid) -> until_state(<<"connected">>), Fun(Pid) end).

%% Asks the program to misbehave, and waits for the next life.
provoke(Name, Request) ->
    Group = status(<<"os_pid">>),
    Restarts = status(<<"restarts">>),
    ?assertEqual({error, disconnected}, call(Name, Request)),
    megaphone_test:until(fun() -> status(<<"restarts">>) > Restarts
                                      andalso state() =:= <<"connected">> end),
    true = gone(Group),
    ?assertEqual({ok, again}, call(<<"echo">>, again)),
    status(<<"reason">>).

calls_test_() ->
    connected(#{}, fun(_) ->
        [?assertEqual({ok, Term}, call(<<"echo">>, Term))
         || Term <- [1, <<"é"/utf8>>, [a, {b}], #{}, self(), make_ref(), binary:copy(<<"x">>, 3000000)]],
        ?assertEqual({error, {refused, <<"not today">>}}, call(<<"refuse">>, x)),
        ?assertMatch({error, {badarg, _}}, call(<<"unknown_atom">>, x)),
        ?assertEqual({ok, 1}, call(<<"two">>, x)),
        ?assertEqual({error, timeout}, megaphone_port:call(<<"mute">>, x, 50)),
        ?assertEqual({error, too_large}, call(<<"echo">>, binary:copy(<<"x">>, 4194304))),
        ?assertEqual({ok, still}, call(<<"echo">>, still))
    end).

many_calls_at_once_test_() ->
    connected(#{}, fun(_) ->
        Self = self(),
        Numbers = lists:seq(1, 500),
        [spawn(fun() -> Self ! {N, call(<<"echo">>, N)} end) || N <- Numbers],
        [receive {N, Result} -> ?assertEqual({ok, N}, Result) end || N <- Numbers]
    end).

%% More bytes than the program's credit: the queue takes them, and they all arrive.
credit_test_() ->
    connected(#{}, fun(_) ->
        Self = self(),
        Body = binary:copy(<<"x">>, 1000000),
        Numbers = lists:seq(1, 24),
        [spawn(fun() -> Self ! {N, call(<<"echo">>, {N, Body})} end) || N <- Numbers],
        [receive {N, Result} -> ?assertEqual({ok, {N, Body}}, Result) end || N <- Numbers],
        ?assertEqual(0, status(<<"queued_bytes">>))
    end).

overload_test_() ->
    connected(#{heartbeat_timeout => 60000}, fun(_) ->
        {ok, true} = call(<<"deaf">>, x),
        {ok, connected} = megaphone_port:subscribe(<<"b">>),
        Body = binary:copy(<<"x">>, 4000000),
        Sent = [megaphone_port:send_batch(<<"b">>, N, Body) || N <- lists:seq(1, 12)],
        ?assertEqual({error, overload}, lists:last(Sent)),
        %% 32 MiB of queue and 8 MiB of credit, as far as the writer has come with it.
        ?assert(lists:member(length([ok || ok <- Sent]), [8, 9, 10])),
        ?assert(status(<<"queued_bytes">>) =< 33554432),
        ok = megaphone_port:unsubscribe(<<"b">>),
        megaphone_test:until(fun() -> status(<<"queued_bytes">>) < 100 end)
    end).

batches_test_() ->
    connected(#{}, fun(_) ->
        ?assertEqual({error, disconnected}, megaphone_port:send_batch(<<"b">>, 0, <<"body">>)),
        [?assertEqual({ok, connected}, megaphone_port:subscribe(B)) || B <- [<<"b">>, <<"fails">>, <<"twice">>]],
        ok = megaphone_port:send_batch(<<"b">>, 0, <<"body">>),
        ok = megaphone_port:send_batch(<<"fails">>, 7, <<"body">>),
        ok = megaphone_port:send_batch(<<"twice">>, 1, <<"body">>),
        ok = megaphone_port:send_batch(<<"b">>, 1, <<"body">>),
        ?assertEqual([{megaphone_batch, <<"b">>, 0, {done, <<"body">>}},
                      {megaphone_batch, <<"b">>, 1, {done, <<"body">>}},
                      {megaphone_batch, <<"fails">>, 7, {failed, memory, <<"too much">>}},
                      {megaphone_batch, <<"twice">>, 1, {done, <<"body">>}}],
                     lists:sort([receive M -> M after ?LATER -> late end || _ <- lists:seq(1, 4)])),
        {ok, _} = call(<<"echo">>, all_read),
        receive More -> error({unexpected, More}) after 0 -> ok end,
        ?assertEqual({error, too_large}, megaphone_port:send_batch(<<"b">>, 2, binary:copy(<<0>>, 4194304)))
    end).

cancel_test_() ->
    connected(#{}, fun(_) ->
        {ok, connected} = megaphone_port:subscribe(<<"b">>),
        ok = megaphone_port:unsubscribe(<<"b">>),
        megaphone_test:until(fun() -> call(<<"cancelled">>, x) =:= {ok, 1} end),
        %% A receiver that dies is as good as one that unsubscribes.
        {Pid, Ref} = spawn_monitor(fun() -> {ok, connected} = megaphone_port:subscribe(<<"c">>) end),
        receive {'DOWN', Ref, process, Pid, normal} -> ok end,
        megaphone_test:until(fun() -> call(<<"cancelled">>, x) =:= {ok, 2} end)
    end).

subscribers_are_told_test_() ->
    connected(#{}, fun(_) ->
        {ok, connected} = megaphone_port:subscribe(<<"mute">>),
        ok = megaphone_port:send_batch(<<"mute">>, 0, <<"body">>),
        _ = provoke(<<"exit">>, 1),
        ?assertEqual([{megaphone_port, disconnected}, {megaphone_port, connected}],
                     [receive M -> M after ?LATER -> late end || _ <- [1, 2]])
    end).

%% The program leads its own group; what else is started in it does not outlive it.
kill_test_() ->
    connected(#{}, fun(_) ->
        OsPid = status(<<"os_pid">>),
        ?assertEqual({ok, [OsPid, OsPid, OsPid]}, call(<<"ids">>, x)),
        {ok, Child} = call(<<"child">>, x),
        ?assert(filelib:is_dir("/proc/" ++ integer_to_list(Child))),
        Started = erlang:monotonic_time(millisecond),
        [] = os:cmd("kill -9 " ++ integer_to_list(OsPid)),
        megaphone_test:until(fun() -> status(<<"restarts">>) =:= 1
                                          andalso state() =:= <<"connected">> end),
        ?assert(erlang:monotonic_time(millisecond) - Started < 2000),
        true = gone(OsPid),
        ?assertEqual(<<"it was ended by signal 9">>, status(<<"reason">>))
    end).

misbehaviour_test_() ->
    [connected((patience(Part))#{restart_intensity => 100}, fun(_) ->
        Total = erlang:memory(total),
        Reason = provoke(Name, Request),
        ?assertEqual({Reason, true}, {Reason, string:find(Reason, Part) =/= nomatch}),
        ?assert(erlang:memory(total) - Total < 64 * 1024 * 1024)
     end)
     || {Name, Request, Part} <-
            [{<<"garbage">>, x, "a frame of 4294967295 bytes"},
             {<<"zero">>, x, "a frame of 0 bytes"},
             {<<"too_long">>, x, "a frame of 5242880 bytes"},
             {<<"one_endless_frame">>, x, "a frame of 0 bytes"},
             {<<"heartbeats">>, x, "heartbeats or credit without end"},
             {<<"stop">>, false, "silent"},
             {<<"stop">>, true, "silent"},
             {<<"silent">>, x, "silent"},
             {<<"exit">>, 7, "status 7"}]].

%% On a busy machine a program may be silent before it does what it is to be ended for.
patience("silent") -> #{};
patience(_) -> #{heartbeat_timeout => 60000}.

%% The node gives credit back for what it takes, so only a busy owner sees it ignored.
ignores_credit_test_() ->
    connected(#{}, fun(Pid) ->
        Total = erlang:memory(total),
        Grown = fun() -> erlang:memory(total) - Total end,
        ok = megaphone_port:cast(<<"flood">>, x),
        ok = sys:suspend(Pid),
        megaphone_test:until(fun() -> Grown() > 100 * 1024 * 1024 end),
        ok = sys:resume(Pid),
        megaphone_test:until(fun() -> status(<<"restarts">>) =:= 1 end),
        ?assertEqual(<<"it sent more than its credit allows and was killed">>, status(<<"reason">>)),
        megaphone_test:until(fun() -> Grown() < 32 * 1024 * 1024 end),
        until_state(<<"connected">>)
    end).

log_test_() ->
    connected(#{}, fun(_) ->
        Text = <<"eins\nzwei", 27>>,
        {ok, 1} = call(<<"log">>, {warning, Text, 1}),
        ?assertEqual([{warning, "megaphone[test] eins\\nzwei\\x1b"}], megaphone_test:logged("eins")),
        {ok, 3000} = call(<<"log">>, {info, <<"flood">>, 3000}),
        ?assert(length(megaphone_test:logged("flood")) < 3000)
    end).

bad_frames_are_dropped_test_() ->
    connected(#{}, fun(_) ->
        ?assertEqual({ok, true}, call(<<"bad_frames">>, x)),
        ?assertEqual(3, length(megaphone_test:logged("a frame of the port program was dropped"))),
        ?assertEqual(0, status(<<"restarts">>))
    end).

node_calls_test_() ->
    {setup,
     fun() -> megaphone_test:standin(
                "-module(megaphone_commands). node_status() -> #{<<\"node\">> => standin}.") end,
     fun megaphone_test:remove_standin/1,
     connected(#{}, fun(_) ->
        {ok, {ok, Answer}} = call(<<"node">>, status),
        ?assertEqual(#{<<"node">> => standin}, binary_to_term(Answer)),
        {ok, {error, NoProc}} = call(<<"nobody">>, status),
        ?assertMatch({noproc, _}, binary_to_term(NoProc))
     end)}.

environment_test_() ->
    {setup,
     fun() -> os:putenv("NOTIFY_SOCKET", "/run/ejabberd"), os:putenv("WATCHDOG_USEC", "1") end,
     fun(_) -> os:unsetenv("NOTIFY_SOCKET"), os:unsetenv("WATCHDOG_USEC") end,
     connected(#{config_file => <<"/etc/é.yml"/utf8>>}, fun(_) ->
        Values = [begin {ok, Value} = call(<<"environment">>, Name), Value end
                  || Name <- [<<"NOTIFY_SOCKET">>, <<"WATCHDOG_USEC">>, <<"PYTHONSAFEPATH">>]],
        ?assertEqual([<<"unset">>, <<"unset">>, <<"1">>], Values),
        {ok, Config} = call(<<"environment">>, <<"MEGAPHONE_CONFIG">>),
        ?assertNotEqual(<<"unset">>, Config)
     end)}.

down_test_() ->
    with("fails_at_import", #{restart_intensity => 3}, fun(_) ->
        until_state(<<"down">>),
        %% The node writes its hello at once: it may learn from that first that the program is gone.
        ?assert(lists:member(status(<<"reason">>),
                             [<<"it ended with status 1">>, <<"it ended while the node wrote to it">>])),
        ?assertEqual({error, disconnected}, call(<<"echo">>, x)),
        ?assertEqual({ok, disconnected}, megaphone_port:subscribe(<<"b">>)),
        megaphone_test:until(fun() -> megaphone_test:logged("does not start") =/= [] end),
        [{error, Remedy}] = megaphone_test:logged("does not stay up"),
        ?assertNotEqual(nomatch, string:find(Remedy, "--check")),
        %% What it printed before it failed, once.
        ?assertMatch([{error, _}], megaphone_test:logged("megaphone[check] printed before the import")),
        ?assertMatch([{error, _}], megaphone_test:logged("megaphone[check] ModuleNotFoundError"))
    end).

down_is_tried_quietly_test_() ->
    with("fails_at_import", #{restart_intensity => 1, retry_interval => 50}, fun(_) ->
        megaphone_test:until(fun() -> status(<<"restarts">>) >= 4 end),
        ?assertMatch([_], megaphone_test:logged("does not stay up")),
        megaphone_test:until(fun() -> megaphone_test:logged("does not start") =/= [] end),
        ?assertMatch([_], megaphone_test:logged("megaphone[check] printed"))
    end).

back_test_() ->
    with("missing", #{restart_intensity => 1, retry_interval => 50}, fun(_) ->
        until_state(<<"down">>),
        ?assertMatch([{error, _}], megaphone_test:logged("is not there or is no program")),
        Good = megaphone_test:options("answers", #{restart_intensity => 1, retry_interval => 50}),
        ok = megaphone_port:reload(Good),
        until_state(<<"connected">>)
    end).

no_hello_test_() ->
    with("says_nothing", #{hello_timeout => 200, restart_intensity => 1}, fun(_) ->
        megaphone_test:until(fun() -> is_integer(status(<<"os_pid">>)) end),
        Group = status(<<"os_pid">>),
        until_state(<<"down">>),
        ?assertEqual(<<"it said no hello in time">>, status(<<"reason">>)),
        true = gone(Group)
    end).

garbage_before_the_hello_test_() ->
    with("garbage", #{restart_intensity => 1}, fun(_) ->
        Total = erlang:memory(total),
        until_state(<<"down">>),
        ?assert(erlang:memory(total) - Total < 16 * 1024 * 1024),
        ?assertMatch(<<"it sent a frame of 4294967295 bytes", _/binary>>, status(<<"reason">>))
    end).

wrong_version_test_() ->
    with("wrong_version", #{restart_intensity => 1}, fun(_) ->
        until_state(<<"down">>),
        ?assertMatch(<<"it speaks protocol [99] and this node [1]", _/binary>>, status(<<"reason">>))
    end).

reload_test_() ->
    connected(#{}, fun(Pid) ->
        First = status(<<"os_pid">>),
        ok = megaphone_port:reload(megaphone_test:options("answers", #{retry_interval => 1})),
        ?assertEqual(First, status(<<"os_pid">>)),
        ok = megaphone_port:reload(megaphone_test:options("answers", #{heartbeat_interval => 150})),
        megaphone_test:until(fun() -> status(<<"restarts">>) =:= 1 end),
        until_state(<<"connected">>),
        true = gone(First),
        ?assert(is_process_alive(Pid))
    end).

%% Neither a status report nor a crash shows what a message held.
nothing_is_shown_test_() ->
    connected(#{heartbeat_timeout => 60000}, fun(Pid) ->
        Secret = <<"a body that nobody may read">>,
        {ok, true} = call(<<"deaf">>, x),
        {ok, connected} = megaphone_port:subscribe(<<"b">>),
        [ok = megaphone_port:send_batch(<<"b">>, N, binary:copy(Secret, 100000)) || N <- lists:seq(1, 5)],
        Hidden = fun(Term) -> nomatch =:= string:find(io_lib:format("~p", [Term]), Secret) end,
        ?assert(Hidden(sys:get_status(Pid))),
        Ref = monitor(process, Pid),
        %% An event that it cannot handle: the owner crashes with bodies in its queue and state.
        Pid ! {'DOWN', make_ref(), process, self(), Secret},
        gen_statem:cast(Pid, {reload, Secret}),
        receive {'DOWN', Ref, process, Pid, Reason} -> ?assert(Hidden(Reason)) end,
        megaphone_test:until(fun() -> megaphone_test:logged("megaphone_port") =/= [] end),
        ?assertEqual([], megaphone_test:logged(Secret)),
        ?assert(Hidden(megaphone_test:log_text()))
    end).
