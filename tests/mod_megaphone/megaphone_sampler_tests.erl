-module(megaphone_sampler_tests).

-include_lib("eunit/include/eunit.hrl").

%% A kind whose module does what the test wants.
with_sampler(Body, Fun) ->
    with_sampler(Body, 1, Fun).

with_sampler(Body, Interval, Fun) ->
    {timeout, 30,
     fun() ->
             megaphone_test:standin("-module(megaphone_reconciliation). sample(Next) -> " ++ Body ++ "."),
             true = register(?MODULE, self()),
             try megaphone_test:with_log(fun() -> Fun(start(Interval)) end)
             after
                 unregister(?MODULE),
                 stop(whereis(megaphone_sampler)),
                 megaphone_test:remove_standin(megaphone_reconciliation),
                 %% The next test runs in this process, too.
                 flush()
             end
     end}.

flush() ->
    receive _ -> flush() after 0 -> ok end.

start(Interval) ->
    {ok, Sampler} = megaphone_sampler:start_link(
                      #{sample_interval => 60000, reconciliation_interval => Interval}),
    Sampler.

stop(undefined) ->
    ok;
stop(Sampler) ->
    unlink(Sampler),
    Monitor = monitor(process, Sampler),
    exit(Sampler, shutdown),
    receive {'DOWN', Monitor, _, _, _} -> ok end.

shown(Name) ->
    maps:get(Name, megaphone_sampler:metrics(), none).

age(Kind) ->
    proplists:get_value(Kind, shown(<<"node_sample_age_seconds">>)).

%% What a kind gives for itself comes back to it.
again_and_again_test_() ->
    with_sampler("N = case Next of none -> 1; _ -> Next + 1 end,"
                 "#{metrics => #{<<\"n\">> => N}, next => N}",
                 fun(_) ->
                         megaphone_test:until(fun() -> is_integer(shown(<<"n">>)) andalso shown(<<"n">>) > 3 end),
                         ?assert(age(<<"sessions">>) >= 0)
                 end).

%% The age is that of the sample, and goes on while the next one is stuck.
stuck_test_() ->
    with_sampler("case Next of none -> #{metrics => #{<<\"n\">> => 1}, next => 1};"
                 "     _ -> megaphone_sampler_tests ! {stuck, self()}, receive never -> ok end end",
                 fun(Sampler) ->
                         Stuck = receive {stuck, Pid} -> Pid end,
                         First = age(<<"sessions">>),
                         megaphone_test:until(fun() -> age(<<"sessions">>) > First + 0.05 end),
                         ?assertEqual(1, shown(<<"n">>)),
                         %% Nothing waits for it, its end does not wait for it, and it ends with it.
                         Monitor = monitor(process, Stuck),
                         unlink(Sampler),
                         exit(Sampler, shutdown),
                         receive {'DOWN', Monitor, _, _, _} -> ok end
                 end).

%% It is told once, and tried on.
failing_test_() ->
    with_sampler("megaphone_sampler_tests ! {tried, Next}, error(oops)",
                 fun(Sampler) ->
                         [receive {tried, none} -> ok end || _ <- lists:seq(1, 5)],
                         ?assertMatch([{warning, _}], megaphone_test:logged("no sample of sessions")),
                         ?assertEqual([], megaphone_test:logged("crash")),
                         ?assertEqual(undefined, age(<<"sessions">>)),
                         ?assert(is_process_alive(Sampler))
                 end).

killed_test_() ->
    with_sampler("megaphone_sampler_tests ! {tried, self()}, receive go -> ok end,"
                 "#{metrics => #{<<\"n\">> => 1}, next => none}",
                 fun(_) ->
                         receive {tried, First} -> exit(First, kill) end,
                         receive {tried, Second} -> Second ! go end,
                         megaphone_test:until(fun() -> shown(<<"n">>) =:= 1 end)
                 end).

%% Wanted while one is being taken: the next one comes right after it, whatever the interval.
soon_test_() ->
    with_sampler("megaphone_sampler_tests ! {tried, self()}, receive go -> ok end,"
                 "#{metrics => #{}, next => none}", 60000,
                 fun(_) ->
                         First = receive {tried, Pid} -> Pid end,
                         ok = megaphone_sampler:soon(sessions),
                         ok = megaphone_sampler:soon(sessions),
                         First ! go,
                         Second = receive {tried, Other} -> Other end,
                         Second ! go,
                         megaphone_test:until(fun() -> not is_process_alive(Second) end),
                         ok = megaphone_sampler:soon(sessions),
                         receive {tried, Third} -> Third ! go end,
                         receive {tried, _} -> error(too_many) after 50 -> ok end
                 end).

%% What has taken long is not taken again at once: a hundredth of a scheduler is its share.
rests_test_() ->
    with_sampler("megaphone_sampler_tests ! {tried, self()}, timer:sleep(20),"
                 "#{metrics => #{}, next => none}",
                 fun(_) ->
                         receive {tried, _} -> ok end,
                         Begin = erlang:monotonic_time(millisecond),
                         receive {tried, _} -> ok end,
                         ?assert(erlang:monotonic_time(millisecond) - Begin >= 99 * 20)
                 end).

%% Other intervals count from now on.
reload_test_() ->
    with_sampler("megaphone_sampler_tests ! {tried, self()}, #{metrics => #{}, next => none}", 60000,
                 fun(Sampler) ->
                         receive {tried, _} -> ok end,
                         _ = sys:get_state(Sampler),
                         ok = megaphone_sampler:reload(#{sample_interval => 60000,
                                                         reconciliation_interval => 1}),
                         [receive {tried, _} -> ok end || _ <- lists:seq(1, 3)]
                 end).

soon_without_a_sampler_test() ->
    ?assertEqual(ok, megaphone_sampler:soon(sessions)).
