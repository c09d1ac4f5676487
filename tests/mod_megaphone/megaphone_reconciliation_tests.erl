-module(megaphone_reconciliation_tests).

-include_lib("eunit/include/eunit.hrl").

reconciliation_test_() ->
    {foreach,
     fun() ->
             ok = people_standin:start([<<"localhost">>, <<"a.test">>]),
             ok = megaphone_counts:start(),
             megaphone_sessions:new_table()
     end,
     fun(_) ->
             ets:delete(megaphone_sessions),
             megaphone_counts:stop(),
             people_standin:stop()
     end,
     [fun who_was_there_before/0, fun dead_and_elsewhere/0, fun released/0, fun without_a_table/0,
      fun only_vhosts_that_have_the_module/0]}.

kept_elsewhere_test_() ->
    {setup,
     fun() ->
             ok = people_standin:start([<<"sql.test">>]),
             ok = megaphone_counts:start(),
             megaphone_sessions:new_table()
     end,
     fun(_) ->
             ets:delete(megaphone_sessions),
             megaphone_counts:stop(),
             people_standin:stop()
     end,
     fun() ->
             _ = sample(),
             ok = megaphone_sessions:opened({0, self()}, jid:make(<<"u">>, <<"sql.test">>), []),
             ?assertMatch(#{<<"session_drift">> := 0}, sample()),
             ?assertEqual([{<<"sql.test">>, 1}], shown())
     end}.

sample() ->
    #{metrics := Metrics} = megaphone_reconciliation:sample(none),
    Metrics.

shown() ->
    #{<<"sessions">> := Rows} = megaphone_sessions:metrics(),
    lists:sort(Rows).

who_was_there_before() ->
    [people_standin:open(integer_to_binary(I), <<"localhost">>, <<"r">>) || I <- lists:seq(1, 2500)],
    _ = people_standin:open(<<"u">>, <<"a.test">>, <<"r">>),
    ?assertEqual(#{<<"session_drift">> => 0, <<"session_rows_dead">> => 0}, sample()),
    ?assertEqual([{<<"a.test">>, 1}, {<<"localhost">>, 2500}], shown()),
    ?assertMatch(#{<<"session_drift">> := 0}, sample()),
    ?assertEqual(2, megaphone_counts:count(reconciliations)).

%% A process that was killed has left its row; another node's is not ours.
dead_and_elsewhere() ->
    _ = people_standin:open(<<"u">>, <<"localhost">>, <<"r">>),
    Killed = people_standin:open(<<"v">>, <<"localhost">>, <<"r">>),
    _ = people_standin:open_elsewhere(<<"far">>, <<"localhost">>, <<"r">>),
    _ = sample(),
    Monitor = monitor(process, Killed),
    exit(Killed, kill),
    receive {'DOWN', Monitor, _, _, _} -> ok end,
    ?assertEqual(#{<<"session_drift">> => 1, <<"session_rows_dead">> => 1}, sample()),
    ?assertEqual([{<<"a.test">>, 0}, {<<"localhost">>, 1}], shown()),
    ?assertEqual(#{<<"session_drift">> => 0, <<"session_rows_dead">> => 1}, sample()).

released() ->
    _ = people_standin:open(<<"u">>, <<"localhost">>, <<"r">>),
    _ = sample(),
    ?assertEqual(false, ets:info(session, fixed)).

without_a_table() ->
    hidden = ets:rename(session, hidden),
    try ?assertEqual(#{<<"session_drift">> => 0, <<"session_rows_dead">> => 0}, sample())
    after
        ets:rename(hidden, session)
    end.

only_vhosts_that_have_the_module() ->
    _ = people_standin:open(<<"u">>, <<"localhost">>, <<"r">>),
    _ = people_standin:open(<<"u">>, <<"a.test">>, <<"r">>),
    ok = people_standin:without_module(<<"a.test">>),
    _ = sample(),
    ?assertEqual([{<<"localhost">>, 1}], shown()).
