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

histograms_test_() ->
    {foreach, fun megaphone_counts:start/0, fun(_) -> megaphone_counts:stop() end,
     [fun() ->
              [ok = megaphone_counts:observe(route, Us)
               || Us <- [0, 1000, 1001, 2500, 9999999, 10000000, 10000001, 60000000]],
              {Bounds, Counts, Sum} = megaphone_counts:histogram(route),
              ?assertEqual([0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0], Bounds),
              ?assertEqual([2, 2, 0, 0, 0, 0, 0, 0, 2, 2], Counts),
              ?assert(abs(Sum - 90.0045) < 0.0001)
      end,
      %% Nothing of one histogram is in another, nor in a counter.
      fun() ->
              All = [resolve, route, heartbeat],
              [ok = megaphone_counts:observe(One, N * 1000000) || {N, One} <- lists:zip([1, 2, 3], All)],
              [ok = megaphone_counts:observe(One, 20000000) || One <- All],
              ?assertEqual([21.0, 22.0, 23.0],
                           [element(3, megaphone_counts:histogram(One)) || One <- All]),
              ?assertEqual([2, 2, 2],
                           [lists:sum(element(2, megaphone_counts:histogram(One))) || One <- All]),
              Single = [N || {_, N} <- maps:to_list(megaphone_counts:metrics()), is_number(N)],
              ?assertEqual(0, lists:sum(Single)),
              ?assertEqual(0, megaphone_counts:count(heartbeats_failed))
      end]}.

%% Each counter is one of its own.
indexes_test_() ->
    {setup, fun megaphone_counts:start/0, fun(_) -> megaphone_counts:stop() end,
     fun() ->
             Counters = [logins, logouts, message_in, presence_in, iq_in, message_out, presence_out,
                         iq_out, offline_stored, reconciliations, mnesia_overloads, broadcasts_done,
                         broadcasts_failed, program_restarts, recipients_sent, recipients_gone,
                         recipients_dropped, recipients_failed, heartbeats_done, heartbeats_lost,
                         heartbeats_failed, sidecar_turns, refused_secret, refused_locked_out, refused_identity,
                         refused_protocol, refused_silent, refused_other],
             Numbered = lists:zip(Counters, lists:seq(1, length(Counters))),
             [ok = megaphone_counts:add(Counter, N) || {Counter, N} <- Numbered],
             ?assertEqual(Numbered, [{Counter, megaphone_counts:count(Counter)} || Counter <- Counters]),
             ?assertEqual([0, 0, 0], [lists:sum(element(2, megaphone_counts:histogram(One)))
                                      || One <- [resolve, route, heartbeat]])
     end}.

sidecars_test_() ->
    {setup, fun megaphone_counts:start/0, fun(_) -> megaphone_counts:stop() end,
     fun() ->
             [ok = megaphone_counts:add(Counter, N)
              || {N, Counter} <- lists:zip(lists:seq(1, 7), [sidecar_turns, refused_secret, refused_locked_out,
                                                             refused_identity, refused_protocol, refused_silent,
                                                             refused_other])],
             ?assertMatch(#{<<"sidecar_turns_total">> := 1,
                            <<"sidecar_refusals_total">> := [{<<"secret">>, 2}, {<<"locked_out">>, 3},
                                                             {<<"identity">>, 4}, {<<"protocol">>, 5},
                                                             {<<"silent">>, 6}, {<<"other">>, 7}]},
                          megaphone_counts:metrics())
     end}.

%% A hook may run when all is gone.
without_counters_test() ->
    ok = megaphone_counts:stop(),
    ?assertEqual(ok, megaphone_counts:add(logins)),
    ?assertEqual(0, megaphone_counts:count(logins)).
