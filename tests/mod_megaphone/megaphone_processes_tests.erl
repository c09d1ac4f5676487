-module(megaphone_processes_tests).

-include_lib("eunit/include/eunit.hrl").

-export([life/1]).

%% In place of megaphone_life: a life is what it was told, newest first, and whether it is full.
life({signals, Batch, {Sent, full}}) -> {ok, {[Batch | Sent], full}};
life({signals, _, {_, overload}}) -> overload;
life({signals, Batch, {Sent, How}}) -> {ok, {[Batch | Sent], How}};
life({is_full, {_, How}}) -> How =/= room;
life({peer, {_, {peer, Capabilities}}}) -> #{max_frame => 5000, capabilities => Capabilities};
life({peer, _}) -> #{max_frame => 5000, capabilities => [<<"processes">>]}.

with(Fun) ->
    {setup,
     fun() -> megaphone_test:standin(
                "-module(megaphone_life).\n"
                "signals(Batch, Life) -> megaphone_processes_tests:life({signals, Batch, Life}).\n"
                "is_full(Life) -> megaphone_processes_tests:life({is_full, Life}).\n"
                "peer(Life) -> megaphone_processes_tests:life({peer, Life}).\n") end,
     fun megaphone_test:remove_standin/1,
     ?_test(Fun())}.

proxy() ->
    Self = self(),
    spawn(fun Loop() -> receive stop -> ok; Message -> Self ! {self(), Message}, Loop() end end).

attached(Numbers) ->
    lists:foldl(fun(N, {Pids, Link, Processes}) ->
                        Pid = proxy(),
                        {ok, #{link := Link1, max_frame := 5000}, Next} =
                            megaphone_processes:attach(N, Pid, 10, {[], room}, Processes),
                        true = Link =:= none orelse Link =:= Link1,
                        {Pids ++ [Pid], Link1, Next}
                end, {[], none, megaphone_processes:new()}, Numbers).

received(Pid) ->
    receive {Pid, Message} -> Message after 1000 -> none end.

attach_test_() ->
    with(fun() ->
        {[One, _], _, Processes} = attached([1, 2]),
        ?assertEqual(2, megaphone_processes:count(Processes)),
        ?assertEqual([true, false], [megaphone_processes:is_proxy(Pid) || Pid <- [One, self()]]),
        Attach = fun(N, Max, Life) -> megaphone_processes:attach(N, self(), Max, Life, Processes) end,
        ?assertEqual({error, badarg}, Attach(1, 10, {[], room})),
        ?assertEqual({error, overload}, Attach(3, 2, {[], room})),
        ?assertEqual({error, disconnected}, Attach(3, 10, {[], {peer, [<<"calls">>]}}))
    end).

%% One message a process, in the order of its signals.
route_test_() ->
    with(fun() ->
        {[One, Two], Link, Processes} = attached([1, 2]),
        Signals = [{1, reply, 1, <<"a">>}, {2, send, 0, <<"b">>}, {3, reply, 9, <<>>}, {1, exit, 0, <<"c">>}],
        Ended = megaphone_processes:route(Signals, Processes),
        ?assertEqual({Link, signals, [{reply, 1, <<"a">>}, {exit, 0, <<"c">>}]}, received(One)),
        ?assertEqual({Link, signals, [{send, 0, <<"b">>}]}, received(Two)),
        Ended = megaphone_processes:route([{1, reply, 2, <<>>}], Ended),
        ?assertEqual(none, received(One))
    end).

%% What Python has ended is no news to it.
down_test_() ->
    with(fun() ->
        {[One, Two], _, Processes} = attached([1, 2]),
        Ended = megaphone_processes:route([{1, exit, 0, <<"c">>}], Processes),
        One ! stop,
        exit(Two, kill),
        Down = lists:foldl(fun(_, Acc) ->
                                   receive {'DOWN', Ref, process, _, _} ->
                                           {ok, Next} = megaphone_processes:down(Ref, Acc), Next
                                   end
                           end, Ended, [One, Two]),
        ?assertEqual({0, false}, {megaphone_processes:count(Down), megaphone_processes:is_proxy(One)}),
        %% It waits for room, and is told once.
        {[], Full, Down} = megaphone_processes:release({[], full}, Down),
        ?assertEqual({[], full}, Full),
        {[], {[Batch], room}, Told} = megaphone_processes:release({[], room}, Down),
        <<_:32, Payload/binary>> = iolist_to_binary(megaphone_signals:frame(Batch)),
        {signals, [{2, gone, 0, Binary}]} = binary_to_term(Payload),
        ?assertEqual(killed, binary_to_term(Binary)),
        ?assertMatch({[], {[], room}, _}, megaphone_processes:release({[], room}, Told)),
        ?assertEqual(error, megaphone_processes:down(make_ref(), Told))
    end).

%% Who has sent when it was full is answered when there is room.
wait_test_() ->
    with(fun() ->
        New = megaphone_processes:new(),
        Batch = megaphone_signals:add(megaphone_signals:encode(1, info, 0, a), megaphone_signals:empty()),
        ?assertEqual({[{reply, from, ok}], {[Batch], room}, New}, megaphone_processes:send(from, Batch, {[], room}, New)),
        ?assertEqual({[{reply, from, {error, overload}}], {[], overload}, New},
                     megaphone_processes:send(from, Batch, {[], overload}, New)),
        {[], {[Batch], full}, Waiting} = megaphone_processes:send(from, Batch, {[], full}, New),
        ?assertMatch({[], _, Waiting}, megaphone_processes:release({[], full}, Waiting)),
        ?assertEqual({[{reply, from, ok}], {[], room}, New}, megaphone_processes:release({[], room}, Waiting))
    end).

disconnected_test_() ->
    with(fun() ->
        {[One, Two], Link, Processes} = attached([1, 2]),
        Batch = megaphone_signals:add(megaphone_signals:encode(1, info, 0, a), megaphone_signals:empty()),
        {[], _, Waiting} = megaphone_processes:send(from, Batch, {[], full}, Processes),
        {[from], Next} = megaphone_processes:disconnected(Waiting),
        [?assertEqual({Link, disconnected}, received(Pid)) || Pid <- [One, Two]],
        ?assertEqual({0, false}, {megaphone_processes:count(Next), megaphone_processes:is_proxy(One)}),
        exit(One, kill),
        receive {'DOWN', _, _, _, _} = Down -> error({unexpected, Down}) after 50 -> ok end,
        {ok, #{link := Other}, _} = megaphone_processes:attach(1, proxy(), 10, {[], room}, Next),
        ?assertNotEqual(Link, Other)
    end).
