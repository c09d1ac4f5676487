-module(megaphone_restarts_tests).

-include_lib("eunit/include/eunit.hrl").

-define(OPTIONS, #{restart_intensity => 5, restart_period => 60000, retry_interval => 30000}).

%% The outcomes of lives that end at the given times, connected for so long before.
lives(Lives) ->
    {Outcomes, Last} = lists:mapfoldl(
                         fun({Now, Connected}, Restarts) ->
                                 {What, Wait, Next} = megaphone_restarts:failed(Now, Connected, Restarts),
                                 {{What, Wait}, Next}
                         end, megaphone_restarts:new(?OPTIONS), Lives),
    {Outcomes, Last}.

doubles_then_down_test() ->
    {Outcomes, Restarts} = lives([{N * 1000, 0} || N <- lists:seq(1, 7)]),
    ?assertEqual([{backing_off, 100}, {backing_off, 200}, {backing_off, 400}, {backing_off, 800},
                  {down, 30000}, {still_down, 30000}, {still_down, 30000}], Outcomes),
    ?assert(megaphone_restarts:is_down(Restarts)).

wait_is_bounded_test() ->
    {Outcomes, _} = lives([{N * 20000, 0} || N <- lists:seq(1, 20)]),
    ?assertEqual({backing_off, 5000}, lists:last(Outcomes)).

failures_are_forgotten_test() ->
    {Outcomes, _} = lives([{N * 15001, 0} || N <- lists:seq(1, 50)]),
    ?assertEqual([], [Down || {down, _} = Down <- Outcomes]).

a_good_life_starts_anew_test() ->
    {Outcomes, _} = lives([{1, 0}, {2, 0}, {3, 0}, {4, 0}, {15000, 10000}, {15001, 0}]),
    ?assertEqual([{backing_off, 100}, {backing_off, 200}], lists:nthtail(4, Outcomes)).

a_short_connection_is_a_failure_test() ->
    {Outcomes, _} = lives([{N, 9999} || N <- lists:seq(1, 5)]),
    ?assertEqual({down, 30000}, lists:last(Outcomes)).

back_test() ->
    {_, Down} = lives([{N, 0} || N <- lists:seq(1, 5)]),
    {back, Up} = megaphone_restarts:connected(Down),
    ?assertMatch({connected, _}, megaphone_restarts:connected(Up)),
    ?assertMatch({backing_off, 100, _}, megaphone_restarts:failed(6, 0, Up)).

options_keep_the_count_test() ->
    {_, Restarts} = lives([{N, 0} || N <- lists:seq(1, 2)]),
    Changed = megaphone_restarts:options(maps:put(restart_intensity, 3, ?OPTIONS), Restarts),
    ?assertMatch({down, 30000, _}, megaphone_restarts:failed(3, 0, Changed)).
