-module(megaphone_sessions_tests).

-include_lib("eunit/include/eunit.hrl").
-include("xmpp.hrl").

sessions_test_() ->
    {foreach,
     fun() -> ok = megaphone_counts:start(), megaphone_sessions:new_table() end,
     fun(_) -> ets:delete(megaphone_sessions), megaphone_counts:stop() end,
     [fun counted/0, fun vhosts_that_are_not_counted/0, fun not_shown_before_they_are_known/0,
      fun wrong_and_nothing_moved/0, fun right_as_far_as_one_can_tell/0, fun wrong_whatever_moved/0,
      fun found_half_of_what_moved/0, fun kept_elsewhere/0, fun gone_meanwhile/0]}.

without_a_table_test() ->
    ok = megaphone_counts:stop(),
    ?assertEqual(ok, opened(<<"a">>)),
    ?assertEqual(ok, closed(<<"a">>)).

opened(Host) -> megaphone_sessions:opened({0, self()}, #jid{lserver = Host}, []).
closed(Host) -> megaphone_sessions:closed({0, self()}, #jid{lserver = Host}, []).

times(N, Fun) -> [ok = Fun() || _ <- lists:seq(1, N)], ok.

shown() ->
    maps:get(<<"sessions">>, megaphone_sessions:metrics(), unknown).

%% Counted from the first session on.
known(Host) ->
    ok = megaphone_sessions:hosts([Host]),
    0 = megaphone_sessions:reconcile(Host, 0, {0, 0}),
    ok.

counted() ->
    ok = megaphone_sessions:hosts([<<"a">>, <<"b">>]),
    times(3, fun() -> opened(<<"a">>) end),
    ok = closed(<<"a">>),
    ok = opened(<<"b">>),
    ?assertEqual(#{<<"a">> => {2, 4}, <<"b">> => {1, 1}}, megaphone_sessions:counts()),
    ?assertEqual(4, megaphone_counts:count(logins)),
    ?assertEqual(1, megaphone_counts:count(logouts)).

vhosts_that_are_not_counted() ->
    ok = megaphone_sessions:hosts([<<"a">>]),
    ok = opened(<<"b">>),
    ?assertEqual(#{<<"a">> => {0, 0}}, megaphone_sessions:counts()),
    ok = megaphone_sessions:hosts([<<"b">>]),
    ?assertEqual(#{<<"b">> => {0, 0}}, megaphone_sessions:counts()).

%% Who was there before the hooks is not counted yet: not of one vhost, and so of none.
not_shown_before_they_are_known() ->
    ok = megaphone_sessions:hosts([<<"a">>, <<"b">>]),
    ok = closed(<<"a">>),
    ?assertEqual(unknown, shown()),
    0 = megaphone_sessions:reconcile(<<"a">>, 0, {0, 0}),
    ?assertEqual(unknown, shown()),
    %% They are no drift.
    0 = megaphone_sessions:reconcile(<<"b">>, 7, {0, 0}),
    %% Less than nobody is nobody.
    ?assertEqual([{<<"b">>, 7}, {<<"a">>, 0}], shown()).

wrong_and_nothing_moved() ->
    ok = known(<<"a">>),
    times(5, fun() -> opened(<<"a">>) end),
    #{<<"a">> := Before} = megaphone_sessions:counts(),
    ?assertEqual(2, megaphone_sessions:reconcile(<<"a">>, 3, Before)),
    ?assertEqual([{<<"a">>, 3}], shown()),
    #{<<"a">> := After} = megaphone_sessions:counts(),
    ?assertEqual(-7, megaphone_sessions:reconcile(<<"a">>, 10, After)),
    ?assertEqual([{<<"a">>, 10}], shown()).

%% Two logins during the walk, which it may have met or not.
right_as_far_as_one_can_tell() ->
    ok = megaphone_sessions:hosts([<<"a">>]),
    times(5, fun() -> opened(<<"a">>) end),
    [begin
         #{<<"a">> := Before} = megaphone_sessions:counts(),
         times(2, fun() -> opened(<<"a">>) end),
         times(2, fun() -> closed(<<"a">>) end),
         ?assertEqual(0, megaphone_sessions:reconcile(<<"a">>, Found, Before)),
         ?assertEqual([{<<"a">>, 5}], shown())
     end || Found <- [1, 5, 9]].

wrong_whatever_moved() ->
    ok = known(<<"a">>),
    times(100, fun() -> opened(<<"a">>) end),
    #{<<"a">> := Before} = megaphone_sessions:counts(),
    times(3, fun() -> opened(<<"a">>) end),
    times(3, fun() -> closed(<<"a">>) end),
    ?assertEqual(20, megaphone_sessions:reconcile(<<"a">>, 80, Before)),
    ?assertEqual([{<<"a">>, 80}], shown()).

%% The first look at a node where a thousand are online and ten come meanwhile.
found_half_of_what_moved() ->
    ok = megaphone_sessions:hosts([<<"a">>]),
    #{<<"a">> := Before} = megaphone_sessions:counts(),
    times(10, fun() -> opened(<<"a">>) end),
    _ = megaphone_sessions:reconcile(<<"a">>, 1005, Before),
    ?assertEqual([{<<"a">>, 1010}], shown()).

kept_elsewhere() ->
    ok = megaphone_sessions:hosts([<<"a">>]),
    times(4, fun() -> opened(<<"a">>) end),
    ?assertEqual(0, megaphone_sessions:reconcile(<<"a">>, unknown, {0, 0})),
    ?assertEqual([{<<"a">>, 4}], shown()).

gone_meanwhile() ->
    ?assertEqual(0, megaphone_sessions:reconcile(<<"a">>, 7, {0, 0})),
    ?assertEqual([], shown()).
