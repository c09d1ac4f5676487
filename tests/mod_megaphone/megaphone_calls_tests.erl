-module(megaphone_calls_tests).

-include_lib("eunit/include/eunit.hrl").

with_status(Body, Fun) ->
    {setup,
     fun() -> megaphone_test:standin("-module(megaphone_commands). node_status() -> " ++ Body ++ ".") end,
     fun megaphone_test:remove_standin/1,
     Fun}.

answer(Calls) ->
    receive
        {'DOWN', Ref, process, _, Reason} -> megaphone_calls:down(Ref, Reason, Calls);
        {timeout, _, {node_call, Ref}} -> ok = megaphone_calls:expired(Ref, Calls), answer(Calls)
    after 5000 -> error(no_answer)
    end.

status_test_() ->
    with_status("#{<<\"a\">> => 1}",
                ?_test(begin
                           {ok, Calls} = megaphone_calls:start(7, <<"node">>, status, 1000, megaphone_calls:new()),
                           {7, {ok, Answer}, Rest} = answer(Calls),
                           ?assertEqual(#{<<"a">> => 1}, binary_to_term(Answer)),
                           ?assertEqual(megaphone_calls:new(), Rest)
                       end)).

%% A crash answers, and leaves no error report of its own.
crash_test_() ->
    with_status("exit(oops)",
                ?_test(megaphone_test:with_log(
                         fun() ->
                                 {ok, Calls} = megaphone_calls:start(7, <<"node">>, status, 1000, megaphone_calls:new()),
                                 {7, {error, Answer}, _} = answer(Calls),
                                 ?assertMatch({crash, _}, binary_to_term(Answer)),
                                 ?assertEqual([], megaphone_test:logged("oops"))
                         end))).

too_slow_test_() ->
    with_status("receive never -> ok end",
                ?_test(begin
                           {ok, Calls} = megaphone_calls:start(7, <<"node">>, status, 20, megaphone_calls:new()),
                           {7, {error, Answer}, _} = answer(Calls),
                           ?assertMatch({timeout, _}, binary_to_term(Answer))
                       end)).

sixty_four_at_once_test_() ->
    with_status("receive never -> ok end",
                ?_test(begin
                           Calls = lists:foldl(fun(Id, Acc) ->
                                                       {ok, More} = megaphone_calls:start(Id, <<"node">>, status, 5000, Acc),
                                                       More
                                               end, megaphone_calls:new(), lists:seq(1, 64)),
                           {refused, {error, Answer}} = megaphone_calls:start(65, <<"node">>, status, 5000, Calls),
                           ?assertMatch({overload, _}, binary_to_term(Answer)),
                           ok = megaphone_calls:stop(Calls),
                           receive Message -> error({left_behind, Message}) after 50 -> ok end
                       end)).

unknown_test() ->
    [begin
         {error, Answer} = megaphone_calls:answer(Name, Request),
         ?assertMatch({Kind, _}, binary_to_term(Answer))
     end || {Kind, Name, Request} <- [{noproc, <<"fanout">>, status}, {badarg, <<"node">>, {eval, "x"}}]].

a_stranger_s_monitor_test() ->
    ?assertEqual(error, megaphone_calls:down(make_ref(), normal, megaphone_calls:new())).
