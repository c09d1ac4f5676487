-module(megaphone_outflow_tests).

-include_lib("eunit/include/eunit.hrl").

push(Item, Cost, Outflow) ->
    {ok, Next} = megaphone_outflow:push(Item, Cost, Outflow),
    Next.

%% Writes what may be written, without the writer's answer.
drain(Outflow) ->
    case megaphone_outflow:pop(Outflow) of
        wait -> {[], Outflow};
        {Item, Cost, Popped} ->
            {Items, Last} = drain(megaphone_outflow:writing(Cost, Popped)),
            {[Item | Items], Last}
    end.

waits_for_credit_in_order_test() ->
    Outflow = push(c, 30, push(b, 50, push(a, 60, megaphone_outflow:new(100)))),
    {[a], First} = drain(Outflow),
    ?assertEqual({40, 80}, {megaphone_outflow:credit(First), megaphone_outflow:queued(First)}),
    %% c would fit, but b is before it.
    {[], Second} = drain(megaphone_outflow:written(60, First)),
    {[b, c], Third} = drain(megaphone_outflow:grant(40, Second)),
    ?assertEqual({0, 0, 80}, {megaphone_outflow:credit(Third), megaphone_outflow:queued(Third),
                              megaphone_outflow:unwritten(Third)}).

waits_for_the_writer_test() ->
    Mib = 1048576,
    Outflow = push(b, 10, push(a, 3 * Mib, megaphone_outflow:new(100 * Mib))),
    {[a], First} = drain(Outflow),
    {[b], _} = drain(megaphone_outflow:written(3 * Mib, First)).

overload_test() ->
    Max = megaphone_outflow:max_queue(),
    Outflow = push(a, Max - 5, megaphone_outflow:new(0)),
    ?assertEqual(overload, megaphone_outflow:push(b, 6, Outflow)),
    ?assertMatch({ok, _}, megaphone_outflow:push(b, 5, Outflow)).

what_is_dropped_costs_nothing_test() ->
    {a, 60, Popped} = megaphone_outflow:pop(push(a, 60, megaphone_outflow:new(60))),
    ?assertEqual({60, 0}, {megaphone_outflow:credit(Popped), megaphone_outflow:queued(Popped)}).

filter_test() ->
    Outflow = lists:foldl(fun(N, Acc) -> push(N, 10, Acc) end, megaphone_outflow:new(0), lists:seq(1, 9)),
    Odd = megaphone_outflow:filter(fun(N) -> N rem 2 =:= 1 end, Outflow),
    ?assertEqual(50, megaphone_outflow:queued(Odd)),
    ?assertMatch({[1, 3, 5, 7, 9], _}, drain(megaphone_outflow:grant(1000, Odd))).

%% What waits takes in what comes after it, unless it may not, or something else came between.
extend_test() ->
    Extend = fun(Item, Cost) when Cost =< 60 -> {ok, Item ++ "+"};
                (_, _) -> no
             end,
    ?assertEqual(no, megaphone_outflow:extend(Extend, 10, megaphone_outflow:new(100))),
    {ok, Once} = megaphone_outflow:extend(Extend, 10, push("b", 55, push("a", 30, megaphone_outflow:new(100)))),
    ?assertEqual(95, megaphone_outflow:queued(Once)),
    ?assertEqual(no, megaphone_outflow:extend(Extend, 10, Once)),
    {["a", "b+"], Written} = drain(Once),
    ?assertEqual({0, 5}, {megaphone_outflow:queued(Written), megaphone_outflow:credit(Written)}),
    Max = megaphone_outflow:max_queue(),
    ?assertEqual(overload, megaphone_outflow:extend(fun(Item, _) -> {ok, Item} end, Max, Once)).
