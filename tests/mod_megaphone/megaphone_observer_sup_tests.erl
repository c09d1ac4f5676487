-module(megaphone_observer_sup_tests).

-include_lib("eunit/include/eunit.hrl").

%% Whatever happens to those who observe, they are there again, and nobody above them notices.
killed_again_and_again_test_() ->
    {timeout, 30,
     fun() ->
             Options = #{pipeline_heartbeat_interval => 5000, sample_interval => 5000,
                         reconciliation_interval => 60000},
             {ok, Sup} = megaphone_observer_sup:start_link(Options),
             [killed(megaphone_sampler) || _ <- lists:seq(1, 20)],
             ?assertEqual(Sup, whereis(megaphone_observer_sup)),
             ?assertEqual(3, proplists:get_value(active, supervisor:count_children(Sup))),
             unlink(Sup),
             Monitor = monitor(process, Sup),
             exit(Sup, shutdown),
             receive {'DOWN', Monitor, process, Sup, shutdown} -> ok end
     end}.

killed(Name) ->
    Pid = there(Name, none),
    exit(Pid, kill),
    _ = there(Name, Pid),
    ok.

there(Name, Before) ->
    case whereis(Name) of
        Pid when is_pid(Pid), Pid =/= Before -> Pid;
        _ -> receive after 1 -> there(Name, Before) end
    end.
