-module(megaphone_subscribers_tests).

-include_lib("eunit/include/eunit.hrl").

received() ->
    receive Message -> [Message | received()] after 0 -> [] end.

one_answer_for_each_batch_test() ->
    Asked = megaphone_subscribers:sent(<<"b">>, 3, megaphone_subscribers:add(<<"b">>, self(), megaphone_subscribers:new())),
    ?assertEqual(unwanted, megaphone_subscribers:answer(<<"b">>, 4, {done, <<>>}, Asked)),
    ?assertEqual(unwanted, megaphone_subscribers:answer(<<"c">>, 3, {done, <<>>}, Asked)),
    {ok, Answered} = megaphone_subscribers:answer(<<"b">>, 3, {done, <<"x">>}, Asked),
    ?assertEqual(unwanted, megaphone_subscribers:answer(<<"b">>, 3, {done, <<"x">>}, Answered)),
    ?assertEqual([{megaphone_batch, <<"b">>, 3, {done, <<"x">>}}], received()).

disconnected_forgets_what_was_asked_test() ->
    Asked = megaphone_subscribers:sent(<<"b">>, 3, megaphone_subscribers:add(<<"b">>, self(), megaphone_subscribers:new())),
    Gone = megaphone_subscribers:disconnected(Asked),
    ?assertEqual(unwanted, megaphone_subscribers:answer(<<"b">>, 3, {done, <<>>}, Gone)),
    ?assert(megaphone_subscribers:is_receiver(<<"b">>, self(), Gone)).

told_once_for_several_broadcasts_test() ->
    Two = megaphone_subscribers:add(<<"c">>, self(), megaphone_subscribers:add(<<"b">>, self(), megaphone_subscribers:new())),
    ok = megaphone_subscribers:tell(connected, Two),
    ?assertEqual([{megaphone_port, connected}], received()).

dead_receiver_test() ->
    {Pid, Ref} = spawn_monitor(fun() -> receive stop -> ok end end),
    Subscribers = megaphone_subscribers:add(<<"b">>, Pid, megaphone_subscribers:new()),
    ?assertEqual(error, megaphone_subscribers:down(Ref, Subscribers)),
    Pid ! stop,
    receive {'DOWN', Monitor, process, Pid, _} when Monitor =/= Ref ->
            ?assertMatch({ok, <<"b">>, _}, megaphone_subscribers:down(Monitor, Subscribers))
    end.

removed_leaves_no_monitor_test() ->
    {monitors, Before} = process_info(self(), monitors),
    Subscribers = megaphone_subscribers:add(<<"b">>, self(), megaphone_subscribers:add(<<"b">>, self(), megaphone_subscribers:new())),
    Empty = megaphone_subscribers:remove(<<"b">>, Subscribers),
    ?assertNot(megaphone_subscribers:is_receiver(<<"b">>, self(), Empty)),
    ?assertEqual({monitors, Before}, process_info(self(), monitors)).
