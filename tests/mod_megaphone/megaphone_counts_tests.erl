-module(megaphone_counts_tests).

-include_lib("eunit/include/eunit.hrl").

counts_test_() ->
    {foreach, fun megaphone_counts:start/0, fun(_) -> megaphone_counts:stop() end,
     [fun() ->
              ok = megaphone_counts:add(logins),
              ok = megaphone_counts:add(logins, 2),
              ok = megaphone_counts:add(iq_out),
              ?assertEqual(3, megaphone_counts:count(logins)),
              Metrics = megaphone_metrics:all(),
              ?assertMatch(#{<<"logins_total">> := 3, <<"logouts_total">> := 0}, Metrics),
              #{<<"stanzas_total">> := Stanzas} = Metrics,
              ?assertEqual(6, length(Stanzas)),
              ?assertEqual([{<<"out">>, <<"iq">>, 1}], [Row || {_, _, N} = Row <- Stanzas, N > 0])
      end,
      %% The tree is started anew, the counters are not.
      fun() ->
              ok = megaphone_counts:add(logouts),
              ok = megaphone_counts:start(),
              ?assertEqual(1, megaphone_counts:count(logouts))
      end,
      fun() ->
              Each = fun() -> [megaphone_counts:add(message_in) || _ <- lists:seq(1, 1000)] end,
              Monitors = [element(2, spawn_monitor(Each)) || _ <- lists:seq(1, 20)],
              [receive {'DOWN', Monitor, _, _, normal} -> ok end || Monitor <- Monitors],
              ?assertEqual(20000, megaphone_counts:count(message_in))
      end]}.

%% A hook may run when all is gone.
without_counters_test() ->
    ok = megaphone_counts:stop(),
    ?assertEqual(ok, megaphone_counts:add(logins)),
    ?assertEqual(0, megaphone_counts:count(logins)).
