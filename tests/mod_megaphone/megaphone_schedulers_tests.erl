-module(megaphone_schedulers_tests).

-include_lib("eunit/include/eunit.hrl").

-define(RATIO, <<"vm_scheduler_utilization_ratio">>).

%% One scheduler that works all the time is its share of all.
busy_test_() ->
    {timeout, 30,
     fun() ->
             ok = megaphone_schedulers:enable(),
             #{metrics := Nothing, next := First} = megaphone_schedulers:sample(none),
             ?assertEqual(#{}, Nothing),
             Busy = spawn_link(fun Loop() -> Loop() end),
             receive after 500 -> ok end,
             #{metrics := #{?RATIO := Ratios}} = megaphone_schedulers:sample(First),
             unlink(Busy),
             exit(Busy, kill),
             %% The next test may run in this process, too.
             true = erlang:system_flag(scheduler_wall_time, false),
             ?assertMatch([{<<"normal">>, _}, {<<"dirty_cpu">>, _}, {<<"dirty_io">>, _}], Ratios),
             [?assert(Ratio >= 0.0 andalso Ratio =< 1.0) || {_, Ratio} <- Ratios],
             ?assert(proplists:get_value(<<"normal">>, Ratios)
                     > 0.3 / erlang:system_info(schedulers_online)),
             ?assert(proplists:get_value(<<"dirty_io">>, Ratios) < 0.5)
     end}.

%% Somebody has turned the measuring off: there is nothing to say, and the next look begins anew.
not_measured_test_() ->
    {timeout, 30,
     fun() ->
             {_, Monitor} = spawn_monitor(fun() ->
                 ok = megaphone_schedulers:enable(),
                 #{next := Times} = megaphone_schedulers:sample(none),
                 exit({times, Times})
             end),
             Times = receive {'DOWN', Monitor, _, _, {times, Found}} -> Found end,
             megaphone_test:until(fun() ->
                                          erlang:statistics(scheduler_wall_time_all) =:= undefined
                                  end),
             ?assertEqual(#{metrics => #{}, next => none}, megaphone_schedulers:sample(Times))
     end}.
