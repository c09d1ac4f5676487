-module(megaphone_metrics_tests).

-include_lib("eunit/include/eunit.hrl").

%% Names are those of docs/metrics.md, and every value goes over the wire as docs/protocol.md says.
shape_test() ->
    Metrics = megaphone_metrics:all(),
    ?assertMatch(#{<<"node_info">> := [{_, _, _, _, 1}], <<"vm_processes">> := _}, Metrics),
    maps:foreach(fun(Name, Value) ->
                         ?assert(is_binary(Name)),
                         ?assert(is_value(Value), {Name, Value})
                 end, Metrics).

is_value(Rows) when is_list(Rows) ->
    lists:all(fun(Row) ->
                      [Value | Labels] = lists:reverse(tuple_to_list(Row)),
                      is_value(Value) andalso Labels =/= []
                          andalso lists:all(fun is_binary/1, Labels)
              end, Rows);
is_value({Bounds, Counts, Sum}) ->
    lists:all(fun is_float/1, Bounds) andalso lists:all(fun is_integer/1, Counts)
        andalso length(Counts) =:= length(Bounds) + 1 andalso is_float(Sum);
is_value(Value) ->
    is_number(Value).

%% A clock that is set, back or forth, changes nothing.
uptime_is_monotonic_test() ->
    #{<<"node_uptime_seconds">> := Uptime} = megaphone_metrics:all(),
    {Milliseconds, _} = erlang:statistics(wall_clock),
    ?assert(abs(Uptime - Milliseconds / 1000) < 5).

a_part_that_fails_takes_nothing_with_it_test_() ->
    {setup,
     fun() -> megaphone_test:standin("-module(megaphone_vm). metrics() -> error(oops).") end,
     fun megaphone_test:remove_standin/1,
     ?_test(begin
                Metrics = megaphone_metrics:all(),
                ?assertMatch(#{<<"node_info">> := _}, Metrics),
                ?assertNot(is_map_key(<<"vm_processes">>, Metrics))
            end)}.

%% What the port program gets.
as_an_answer_test() ->
    {ok, Binary} = megaphone_calls:answer(<<"node">>, metrics),
    ?assertMatch(#{<<"node_info">> := _}, binary_to_term(Binary)).

%% Ten rows are told as they are; of more, nine and the others together.
largest_test() ->
    Rows = fun(N) -> [{integer_to_binary(I), I, 1} || I <- lists:seq(1, N)] end,
    ?assertEqual([], megaphone_metrics:largest(2, [])),
    ?assertEqual(lists:reverse(Rows(10)), megaphone_metrics:largest(2, Rows(10))),
    Eleven = megaphone_metrics:largest(2, Rows(11)),
    ?assertEqual(10, length(Eleven)),
    ?assertEqual([{<<"11">>, 11, 1}, {<<"other">>, 3, 2}], [hd(Eleven), lists:last(Eleven)]),
    Many = megaphone_metrics:largest(2, Rows(2000)),
    ?assertEqual(10, length(Many)),
    ?assertEqual(2000 * 2001 div 2, lists:sum([N || {_, N, _} <- Many])),
    ?assertEqual(2000, lists:sum([N || {_, _, N} <- Many])).

%% A vhost that is called `other` cannot be told twice.
called_other_test() ->
    Rows = [{integer_to_binary(I), I} || I <- lists:seq(1, 9)],
    ?assertEqual({<<"other">>, 99}, lists:last(megaphone_metrics:largest(2, [{<<"other">>, 99} | Rows]))),
    More = megaphone_metrics:largest(2, [{<<"other">>, 99}, {<<"10">>, 10} | Rows]),
    ?assertEqual([{<<"other">>, 100}], [Row || {<<"other">>, _} = Row <- More]),
    ?assertEqual(10, length(More)).

%% Two thousand vhosts, every one of them; what goes beyond the bound is told together.
detailed_test_() ->
    {setup,
     fun megaphone_sessions:new_table/0,
     fun(_) -> ets:delete(megaphone_sessions) end,
     fun() ->
             Hosts = fun(N) -> [integer_to_binary(I) || I <- lists:seq(1, N)] end,
             Count = fun(N) ->
                             ok = megaphone_sessions:hosts(Hosts(N)),
                             [megaphone_sessions:reconcile(Host, 2, {0, 0}) || Host <- Hosts(N)],
                             maps:get(<<"detailed_sessions">>, megaphone_metrics:detailed())
                     end,
             ?assertEqual(lists:sort([{Host, 2} || Host <- Hosts(2000)]), lists:sort(Count(2000))),
             Many = Count(10500),
             ?assertEqual(10000, length(Many)),
             ?assertEqual([{<<"other">>, 2 * 501}], [Row || {<<"other">>, _} = Row <- Many]),
             %% And a scrape has ten of them at most.
             #{<<"sessions">> := Few} = megaphone_metrics:all(),
             ?assertEqual(10, length(Few)),
             {ok, Answer} = megaphone_calls:answer(<<"node">>, {metrics, detailed}),
             ?assertMatch(#{<<"detailed_sessions">> := _}, binary_to_term(Answer))
     end}.
