-module(megaphone_turn_tests).

-include_lib("eunit/include/eunit.hrl").

-export([taken/1]).

%% In place of the owner of the port: takes batches, and answers what the test wants.
with(Options, Fun) ->
    {setup,
     fun() ->
             persistent_term:put({mod_megaphone, options}, maps:merge(#{max_calls => 100}, Options)),
             megaphone_test:standin("-module(megaphone_port).\n"
                                    "send_signals(Batch) -> megaphone_turn_tests:taken(Batch).\n")
     end,
     fun(Module) ->
             persistent_term:erase({mod_megaphone, options}),
             megaphone_test:remove_standin(Module)
     end,
     ?_test(begin erlang:put(answers, []), erlang:put(frames, []), Fun() end)}.

taken(Batch) ->
    <<_:32, Payload/binary>> = iolist_to_binary(megaphone_signals:frame(Batch)),
    {signals, Signals} = binary_to_term(Payload),
    erlang:put(frames, [Signals | erlang:get(frames)]),
    case erlang:get(answers) of
        [Answer | Rest] -> erlang:put(answers, Rest), Answer;
        [] -> ok
    end.

frames() ->
    [[{Kind, binary_to_term(Binary)} || {1, Kind, _, Binary} <- Frame]
     || Frame <- lists:reverse(erlang:get(frames))].

send(Entries, Callers) -> megaphone_turn:send(Entries, 1, 4194304, Callers).

send(Entries) -> send(Entries, megaphone_callers:new()).

call(Request) -> call(Request, infinity).

call(Request, Deadline) -> {call, call, {self(), make_ref()}, Request, Deadline}.

refused() ->
    receive {'DOWN', _, process, _, Reason} -> Reason after 0 -> none end.

nothing_test_() ->
    with(#{}, fun() ->
        ?assertEqual({ok, {0, 0}, megaphone_callers:new()}, send([])),
        ?assertEqual([], frames())
    end).

in_order_and_at_once_test_() ->
    with(#{}, fun() ->
        Self = self(),
        Entries = [{signal, cast, 0, a}, call(b), {signal, info, 0, c},
                   {call, system, {Self, make_ref()}, get_state, infinity}],
        {ok, {0, 0}, Callers} = send(Entries),
        ?assertEqual([[{cast, a}, {call, {Self, b, infinity}}, {info, c}, {system, {Self, get_state, megaphone_sys:wants_ok()}}]], frames()),
        ?assertEqual(2, megaphone_callers:count(Callers))
    end).

time_test_() ->
    with(#{}, fun() ->
        Now = erlang:monotonic_time(millisecond),
        {ok, {0, 0}, Callers} = send([call(late, Now), call(later, Now - 1), call(good, Now + 5000)]),
        ?assertMatch([[{call, {_, good, Left}}]] when Left > 4000 andalso Left =< 5000, frames()),
        ?assertEqual(1, megaphone_callers:count(Callers))
    end).

%% Every request is bounded, and holds one signal at least.
bytes_test_() ->
    with(#{}, fun() ->
        Body = binary:copy(<<"x">>, 100000),
        {ok, {0, 0}, _} = send([{signal, cast, 0, {N, Body}} || N <- lists:seq(1, 5)]
                               ++ [{signal, info, 0, binary:copy(Body, 4)}, {signal, cast, 0, last}]),
        ?assertEqual([[1, 2], [3, 4], [5], [info], [last]],
                     [[case Signal of {cast, {N, _}} -> N; {cast, last} -> last; {info, _} -> info end
                       || Signal <- Frame] || Frame <- frames()])
    end).

too_large_test_() ->
    with(#{}, fun() ->
        Body = binary:copy(<<"x">>, 5000000),
        {ok, {0, 2}, Callers} = send([{signal, cast, 0, Body}, call(Body), {signal, info, 0, Body}, call(small)]),
        ?assertMatch({too_large, Bytes} when Bytes > 5000000, refused()),
        ?assertEqual(none, refused()),
        ?assertEqual(1, megaphone_callers:count(Callers))
    end).

%% Only what was in the refused request is lost.
overload_test_() ->
    with(#{}, fun() ->
        erlang:put(answers, [{error, overload}, ok]),
        Body = binary:copy(<<"x">>, 200000),
        {ok, {1, 0}, Callers} = send([call(Body), {signal, cast, 0, a}, call(b),
                                      {signal, info, 0, Body}, call(kept)]),
        ?assertEqual([overload, overload, none], [refused(), refused(), refused()]),
        ?assertEqual(1, megaphone_callers:count(Callers))
    end).

max_calls_test_() ->
    with(#{max_calls => 2}, fun() ->
        {ok, {0, 0}, Callers} = send([call(a), call(b), call(c), {signal, cast, 0, d}]),
        ?assertEqual([overload, none], [refused(), refused()]),
        {ok, {0, 0}, Full} = send([call(e)], Callers),
        ?assertEqual(overload, refused()),
        ?assertEqual(2, megaphone_callers:count(Full))
    end).

disconnected_test_() ->
    with(#{}, fun() ->
        erlang:put(answers, [{error, disconnected}]),
        Body = binary:copy(<<"x">>, 200000),
        ?assertMatch({disconnected, _, _}, send([{signal, cast, 0, Body} || _ <- lists:seq(1, 4)])),
        ?assertEqual(1, length(frames()))
    end).
