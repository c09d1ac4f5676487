-module(megaphone_lockout_tests).

-include_lib("eunit/include/eunit.hrl").

-define(ONE, {192, 0, 2, 1}).
-define(OTHER, {16#2001, 16#db8, 0, 0, 0, 0, 0, 1}).

%% So many wrong secrets at these times; what came of each.
failed(Times, Address, Lockout) ->
    lists:mapfoldl(fun(Time, Acc) -> megaphone_lockout:failed(Time, Address, Acc) end, Lockout, Times).

five_test() ->
    {Outcomes, Locked} = failed([0, 10, 20, 30, 40], ?ONE, megaphone_lockout:new()),
    ?assertEqual([failed, failed, failed, failed, locked], Outcomes),
    ?assertEqual([60000, 1, false], [megaphone_lockout:locked(Now, ?ONE, Locked) || Now <- [40, 60039, 60040]]),
    %% From then on it is as if nothing had been.
    {Again, Unlocked} = failed([60040, 60041, 60042, 60043], ?ONE, Locked),
    ?assertEqual([failed, failed, failed, failed], Again),
    ?assertEqual(false, megaphone_lockout:locked(60043, ?ONE, Unlocked)).

%% A minute from the last one, however long the five of them took.
a_whole_minute_test() ->
    {Outcomes, Locked} = failed([0, 14000, 28000, 42000, 56000], ?ONE, megaphone_lockout:new()),
    ?assertEqual([failed, failed, failed, failed, locked], Outcomes),
    ?assertEqual([60000, 56000, 1, false], [megaphone_lockout:locked(Now, ?ONE, Locked)
                                            || Now <- [56000, 60000, 115999, 116000]]).

%% A connection that was there before is wrong, too.
while_locked_test() ->
    {Outcomes, Locked} = failed([0, 1, 2, 3, 4, 1000], ?ONE, megaphone_lockout:new()),
    ?assertEqual(locked, lists:last(Outcomes)),
    ?assertEqual([1, false], [megaphone_lockout:locked(Now, ?ONE, Locked) || Now <- [60999, 61000]]).

%% Times of a monotonic clock are below zero as a rule.
negative_times_test() ->
    {_, Locked} = failed([-576460752303, -576460752302, -576460752301, -576460752300, -576460752299], unix,
                         megaphone_lockout:new()),
    ?assertEqual(60000, megaphone_lockout:locked(-576460752299, unix, Locked)).

four_test() ->
    {_, Lockout} = failed([0, 10, 20, 30], ?ONE, megaphone_lockout:new()),
    ?assertEqual(false, megaphone_lockout:locked(31, ?ONE, Lockout)).

%% Slow enough, and nobody is locked out.
slow_test() ->
    {Outcomes, Lockout} = failed(lists:seq(0, 1500000, 15000), ?ONE, megaphone_lockout:new()),
    ?assertEqual([failed], lists:usort(Outcomes)),
    ?assertEqual(false, megaphone_lockout:locked(1500000, ?ONE, Lockout)).

others_are_not_locked_test() ->
    {_, Locked} = failed([0, 1, 2, 3, 4], ?ONE, megaphone_lockout:new()),
    ?assertEqual([false, false, false], [megaphone_lockout:locked(5, Address, Locked)
                                         || Address <- [{192, 0, 2, 2}, ?OTHER, unix]]).

%% The address that failed longest ago is forgotten for another; one that is known needs no room.
bounded_test() ->
    Addresses = [{10, 0, N div 256, N rem 256} || N <- lists:seq(1, 1024)],
    Full = lists:foldl(fun({N, Address}, Lockout) -> element(2, failed([N, N], Address, Lockout)) end,
                       megaphone_lockout:new(), lists:zip(lists:seq(1, 1024), Addresses)),
    ?assertEqual(1024, map_size(Full)),
    %% The first one fails again: the second is the oldest now.
    {[failed, failed, locked], Known} = failed([2000, 2001, 2002], hd(Addresses), Full),
    ?assertEqual(1024, map_size(Known)),
    {[failed], More} = failed([3000], ?OTHER, Known),
    ?assertEqual(1024, map_size(More)),
    ?assertEqual([true, false, true], [maps:is_key(Address, More)
                                       || Address <- [hd(Addresses), lists:nth(2, Addresses), lists:nth(3, Addresses)]]),
    ?assertNotEqual(false, megaphone_lockout:locked(3000, hd(Addresses), More)).
