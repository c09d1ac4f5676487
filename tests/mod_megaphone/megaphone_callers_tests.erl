-module(megaphone_callers_tests).

-include_lib("eunit/include/eunit.hrl").

%% A caller of this process, and its call.
call(Timeout) ->
    Self = self(),
    Call = fun() -> gen_server:call(Self, hi, Timeout) end,
    {Pid, _} = spawn_monitor(fun() -> exit({ended, megaphone_test:caught(Call)}) end),
    receive {'$gen_call', {Pid, _} = From, hi} -> From end.

result({Pid, _}) ->
    receive {'DOWN', _, process, Pid, {ended, Result}} -> Result after 5000 -> error(late) end.

added(Froms) ->
    lists:foldl(fun({Ref, From}, Callers) -> megaphone_callers:add(Ref, From, Callers) end,
                megaphone_callers:new(), Froms).

%% With an alias and without one.
answers_test_() ->
    [?_test(begin
                [A, B, C] = [call(Timeout) || _ <- [1, 2, 3]],
                Callers = added([{1, A}, {2, B}, {3, C}]),
                ?assertEqual([true, false], [megaphone_callers:is_caller(P, Callers) || P <- [element(1, A), self()]]),
                Replied = megaphone_callers:reply(2, term_to_binary({ok, 1}), Callers),
                ?assertEqual({ok, 1}, result(B)),
                Bad = megaphone_callers:reply(1, <<131, 119, 9, "zzqzzqzzq">>, Replied),
                ?assertMatch({'EXIT', {{bad_reply, not_a_term}, _}}, result(A)),
                Refused = megaphone_callers:refuse(3, no, Bad),
                ?assertMatch({'EXIT', {no, _}}, result(C)),
                ?assertEqual(0, megaphone_callers:count(Refused)),
                ?assertEqual(Refused, megaphone_callers:reply(2, term_to_binary(again), Refused))
            end) || Timeout <- [infinity, 5000]].

present_test() ->
    Timed = call(5000),
    Endless = call(infinity),
    [Gone, Dead] = [begin
                        From = {Pid, _} = call(Timeout),
                        exit(Pid, kill),
                        receive {'DOWN', _, process, Pid, killed} -> From end
                    end || Timeout <- [5000, infinity]],
    Own = {self(), {any, tag}},
    timer:sleep(10),
    [?assertEqual([true, true, false, false, true],
                  [megaphone_callers:is_present(From, megaphone_callers:present(Calls))
                   || From <- [Timed, Endless, Gone, Dead, Own]]) || Calls <- [1, 100]],
    Callers = megaphone_callers:forget_gone(megaphone_callers:present(100),
                                            added([{1, Timed}, {2, Gone}, {3, Endless}, {4, Dead}])),
    ?assertEqual(2, megaphone_callers:count(Callers)),
    _ = [megaphone_callers:reply(Ref, term_to_binary(ok), Callers) || Ref <- [1, 3]],
    [?assertEqual(ok, result(From)) || From <- [Timed, Endless]].

%% A refused caller that lives on monitors for ever: there is a bound to them, and room when they end.
refusals_are_bounded_test_() ->
    {timeout, 30, fun refusals_are_bounded/0}.

refusals_are_bounded() ->
    Self = self(),
    Call = fun(N) -> megaphone_test:caught(fun() -> gen_server:call(Self, N, infinity) end) end,
    Caller = spawn_link(fun() -> [Call(N) || N <- lists:seq(1, 10001)],
                                 receive stop -> ok end
                        end),
    Refuse = fun(_, Callers) ->
                     receive {'$gen_call', From, _} -> megaphone_callers:refuse_from(From, no, Callers) end
             end,
    Full = lists:foldl(Refuse, megaphone_callers:new(), lists:seq(1, 10001)),
    ?assertEqual({current_function, {gen, do_call, 4}}, process_info(Caller, current_function)),
    unlink(Caller),
    exit(Caller, kill),
    megaphone_test:until(fun() -> {monitored_by, Pids} = process_info(self(), monitored_by), length(Pids) < 10 end),
    From = call(5000),
    _ = megaphone_callers:refuse_from(From, no, Full),
    ?assertMatch({'EXIT', {no, _}}, result(From)).
