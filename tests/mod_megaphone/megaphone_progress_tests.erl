-module(megaphone_progress_tests).

-include_lib("eunit/include/eunit.hrl").

a_new_one_resolves_test() ->
    ?assertMatch(#{<<"state">> := <<"resolving">>, <<"resolve_seconds">> := undefined,
                   <<"recipients">> := 0, <<"sent">> := 0, <<"gone">> := 0, <<"dropped">> := 0,
                   <<"failed">> := 0, <<"batches">> := 0, <<"batches_done">> := 0},
                 megaphone_progress:to_map(megaphone_progress:new())).

each_counter_is_its_own_test() ->
    Progress = megaphone_progress:new(),
    Counters = [recipients, sent, gone, dropped, failed, batches, batches_done],
    [ok = megaphone_progress:add(Counter, N, Progress)
     || {Counter, N} <- lists:zip(Counters, lists:seq(1, 7))],
    ?assertEqual(lists:seq(1, 7), [megaphone_progress:count(Counter, Progress) || Counter <- Counters]),
    Map = megaphone_progress:to_map(Progress),
    ?assertEqual(lists:seq(1, 7), [maps:get(atom_to_binary(Counter, utf8), Map) || Counter <- Counters]).

states_and_time_test() ->
    Progress = megaphone_progress:new(),
    ok = megaphone_progress:resolved(1500000, Progress),
    ?assertMatch(#{<<"resolve_seconds">> := 1.5}, megaphone_progress:to_map(Progress)),
    [begin
         ok = megaphone_progress:state(State, Progress),
         ?assertEqual(atom_to_binary(State, utf8), maps:get(<<"state">>, megaphone_progress:to_map(Progress)))
     end || State <- [waiting, running, resolving]].

%% What becomes of recipients counts for all broadcasts together, and nothing else does.
added_up_test_() ->
    {setup, fun megaphone_counts:start/0, fun(_) -> megaphone_counts:stop() end,
     fun() ->
             [begin
                  Progress = megaphone_progress:new(),
                  [ok = megaphone_progress:add(Counter, 1, Progress)
                   || Counter <- [recipients, sent, sent, gone, dropped, failed, batches, batches_done]]
              end || _ <- [1, 2]],
             #{<<"recipients_total">> := Rows} = megaphone_counts:metrics(),
             ?assertEqual([{<<"sent">>, 4}, {<<"gone">>, 2}, {<<"dropped">>, 2}, {<<"failed">>, 2}], Rows)
     end}.

the_states_are_those_that_there_are_test() ->
    Progress = megaphone_progress:new(),
    [begin
         ok = megaphone_progress:state(State, Progress),
         ?assertEqual(State, megaphone_progress:state(Progress))
     end || State <- megaphone_progress:states()].
