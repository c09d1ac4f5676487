-module(megaphone_audience_tests).

-include_lib("eunit/include/eunit.hrl").

audience_test_() ->
    {foreach, fun() -> people_standin:start([<<"localhost">>, <<"a.test">>]) end,
     fun(_) -> people_standin:stop() end,
     [fun everybody/0, fun one_host/0, fun accounts_once/0, fun nobody/0, fun own_sessions_only/0,
      fun batches_have_the_size/0, fun left_out/0, fun released/0, fun counted/0]}.

backend_test_() ->
    {setup, fun() -> people_standin:start([<<"localhost">>, <<"sql.test">>]) end,
     fun(_) -> people_standin:stop() end,
     [?_assertEqual(ok, megaphone_audience:check({hosts, [<<"localhost">>]})),
      ?_assertMatch({error, #{field := <<"to">>}}, megaphone_audience:check({hosts, [<<"sql.test">>]})),
      ?_assertMatch({error, #{field := <<"to">>, what := <<"the sessions of sql.test", _/binary>>}},
                    megaphone_audience:check(all))]}.

no_table_test() ->
    ?assertEqual(undefined, megaphone_audience:sessions()).

freeze(Scope, Unit, Size) ->
    Table = ets:new(batches, [set, private]),
    Self = self(),
    Report = megaphone_audience:freeze(Scope, Unit, Size, Table, fun(N) -> Self ! {resolved, N}, ok end),
    Batches = [Batch || {_, Batch} <- lists:sort(ets:tab2list(Table))],
    {Report, Batches, resolved()}.

resolved() ->
    receive {resolved, N} -> [N | resolved()] after 0 -> [] end.

rows(Batches) ->
    lists:sort(lists:append([megaphone_batch:sessions(Batch) || Batch <- Batches])).

everybody() ->
    Rows = [{User, Server, <<"phone">>, people_standin:open(User, Server, <<"phone">>)}
            || User <- [<<"u", (integer_to_binary(I))/binary>> || I <- lists:seq(1, 1200)],
               Server <- [<<"localhost">>, <<"a.test">>]],
    {Report, Batches, Resolved} = freeze(all, session, 500),
    ?assertEqual(#{recipients => 2400, batches => 5, left_out => 0}, Report),
    ?assertEqual(lists:sort(Rows), rows(Batches)),
    ?assertEqual(2400, lists:sum(Resolved)),
    ?assertEqual([0, 500, 1000, 1500, 2000], [megaphone_batch:first(Batch) || Batch <- Batches]).

one_host() ->
    _ = people_standin:open(<<"u">>, <<"localhost">>, <<"r">>),
    Pid = people_standin:open(<<"u">>, <<"a.test">>, <<"r">>),
    {_, Batches, _} = freeze({hosts, [<<"a.test">>]}, session, 10),
    ?assertEqual([{<<"u">>, <<"a.test">>, <<"r">>, Pid}], rows(Batches)),
    {#{recipients := 0}, [], _} = freeze({hosts, []}, session, 10),
    {#{recipients := 2}, [_], _} = freeze({hosts, [<<"a.test">>, <<"localhost">>]}, session, 10),
    {#{recipients := 1}, [Batch], _} = freeze({hosts, [<<"a.test">>]}, account, 10),
    ?assertEqual([{<<"u">>, <<"a.test">>}], megaphone_batch:accounts(Batch)).

accounts_once() ->
    [people_standin:open(<<"u", (integer_to_binary(I rem 100))/binary>>, <<"localhost">>,
                         integer_to_binary(I)) || I <- lists:seq(1, 300)],
    {Report, Batches, _} = freeze(all, account, 64),
    ?assertEqual(#{recipients => 100, batches => 2, left_out => 0}, Report),
    Accounts = lists:append([megaphone_batch:accounts(Batch) || Batch <- Batches]),
    ?assertEqual(100, length(lists:usort(Accounts))),
    ?assertEqual(100, length(Accounts)).

nobody() ->
    ?assertEqual({#{recipients => 0, batches => 0, left_out => 0}, [], []}, freeze(all, session, 10)).

own_sessions_only() ->
    _ = people_standin:open_elsewhere(<<"far">>, <<"localhost">>, <<"r">>),
    Pid = people_standin:open(<<"near">>, <<"localhost">>, <<"r">>),
    [begin
         {#{recipients := 1}, _, _} = freeze(Scope, Unit, 10)
     end || Scope <- [all, {hosts, [<<"localhost">>]}], Unit <- [session, account]],
    {_, Batches, _} = freeze(all, session, 10),
    ?assertEqual([{<<"near">>, <<"localhost">>, <<"r">>, Pid}], rows(Batches)).

batches_have_the_size() ->
    [people_standin:open(integer_to_binary(I), <<"localhost">>, <<"r">>) || I <- lists:seq(1, 21)],
    [?assertEqual(Counts, [megaphone_batch:count(Batch) || Batch <- element(2, freeze(all, session, Size))])
     || {Size, Counts} <- [{7, [7, 7, 7]}, {20, [20, 1]}, {21, [21]}, {22, [21]}, {1, lists:duplicate(21, 1)}]].

left_out() ->
    _ = people_standin:open(<<"u">>, <<"localhost">>, <<"a", 0, "b">>),
    ?assertMatch({#{recipients := 0, batches := 0, left_out := 1}, [], []}, freeze(all, session, 10)).

released() ->
    _ = people_standin:open(<<"u">>, <<"localhost">>, <<"r">>),
    _ = freeze(all, session, 10),
    ?assertEqual(false, ets:info(session, fixed)),
    %% And after a walk that died in the middle.
    ?assertError(oops, megaphone_audience:freeze(all, session, 1, ets:new(t, [private]),
                                                 fun(_) -> error(oops) end)),
    ?assertEqual(false, ets:info(session, fixed)).

counted() ->
    [people_standin:open(integer_to_binary(I), <<"localhost">>, <<"r">>) || I <- lists:seq(1, 5)],
    ?assertEqual(5, megaphone_audience:sessions()).
