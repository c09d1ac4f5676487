-module(megaphone_complaints_tests).

-include_lib("eunit/include/eunit.hrl").

-export([heard/1]).

heard(Text) -> self() ! {heard, Text}, ok.

with(Fun) ->
    {setup,
     fun() -> megaphone_test:standin("-module(megaphone_port).\n"
                                     "complain(Text) -> megaphone_complaints_tests:heard(Text).\n") end,
     fun megaphone_test:remove_standin/1,
     ?_test(Fun())}.

heard() ->
    receive {heard, Text} -> [Text | heard()] after 0 -> [] end.

next_second() ->
    Second = erlang:monotonic_time(second),
    megaphone_test:until(fun() -> erlang:monotonic_time(second) > Second end).

one_line_a_second_test_() ->
    with(fun() ->
        next_second(),
        Complaints = lists:foldl(fun(_, Acc) -> megaphone_complaints:say("no", Acc) end,
                                 megaphone_complaints:new(7), lists:seq(1, 5)),
        ?assertEqual([<<"process 7: no">>], heard()),
        next_second(),
        _ = megaphone_complaints:say(["still ", "no"], Complaints),
        ?assertEqual([<<"process 7: still no (and 4 lines before that were left out)">>], heard())
    end).

dropped_test_() ->
    with(fun() ->
        Complaints = megaphone_complaints:new(1),
        ?assertEqual(Complaints, megaphone_complaints:dropped({0, 0}, Complaints)),
        ?assertEqual([], heard()),
        _ = megaphone_complaints:dropped({3, 0}, Complaints),
        _ = megaphone_complaints:dropped({0, 2}, Complaints),
        ?assertEqual([<<"process 1: 3 messages were dropped: too much waits for the port program">>,
                      <<"process 1: 2 messages were dropped: no frame holds them">>], heard())
    end).
