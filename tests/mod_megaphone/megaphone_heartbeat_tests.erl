-module(megaphone_heartbeat_tests).

-include_lib("eunit/include/eunit.hrl").

-define(AGE, <<"pipeline_heartbeat_age_seconds">>).

heartbeat_test_() ->
    {foreach,
     fun() ->
             ok = megaphone_counts:start(),
             _ = port_standin:install(),
             port_standin:start(connected)
     end,
     fun(_) ->
             stop(whereis(megaphone_heartbeat)),
             port_standin:stop(),
             port_standin:remove(),
             megaphone_counts:stop()
     end,
     [fun again_and_again/0, fun one_at_a_time/0, fun lost/0, fun lost_with_the_program/0,
      fun an_answer_too_late/0, fun failed/0, fun another_text/0, fun overload/0,
      fun no_port_no_heartbeat/0, fun switched_off_and_on/0]}.

%% What follows a restart of the port's owner.
without_a_port_test() ->
    ok = megaphone_counts:start(),
    {ok, Pid} = start(5),
    megaphone_test:until(fun() -> age() > 0.05 end),
    ?assert(is_process_alive(Pid)),
    ?assertEqual({0, 0, 0}, counted()),
    stop(Pid),
    megaphone_counts:stop().

start(Interval) -> start(Interval, 60000).

start(Interval, LostAfter) ->
    megaphone_heartbeat:start_link(#{pipeline_heartbeat_interval => Interval,
                                     lost_after => LostAfter}).

stop(undefined) -> ok;
stop(Pid) -> unlink(Pid), gen_server:stop(Pid).

counted() ->
    {megaphone_counts:count(heartbeats_done), megaphone_counts:count(heartbeats_lost),
     megaphone_counts:count(heartbeats_failed)}.

age() ->
    maps:get(?AGE, megaphone_heartbeat:metrics(), none).

held() ->
    megaphone_test:until(fun() -> case port_standin:held() of
                                      [] -> false;
                                      [{N, Body}] -> {N, Body}
                                  end
                         end).

again_and_again() ->
    {ok, _} = start(5),
    megaphone_test:until(fun() -> element(1, counted()) >= 5 end),
    {_, Counts, Sum} = megaphone_counts:histogram(heartbeat),
    ?assert(lists:sum(Counts) >= 5),
    ?assert(Sum > 0),
    ?assert(age() < 5),
    ?assertMatch({_, 0, 0}, counted()),
    %% Between two of them nothing of it is anywhere.
    megaphone_test:until(fun() -> length(port_standin:unsubscribed()) >= 5 end).

one_at_a_time() ->
    port_standin:mode(hold),
    {ok, _} = start(5),
    {N, Body} = held(),
    megaphone_test:until(fun() -> age() > 0.1 end),
    ?assertEqual([{N, Body}], port_standin:held()),
    port_standin:answer(N, {done, port_standin:format(Body)}),
    megaphone_test:until(fun() -> element(1, counted()) =:= 1 end),
    %% It took as long as it took.
    {_, _, Sum} = megaphone_counts:histogram(heartbeat),
    ?assert(Sum > 0.05).

%% It is called off, so that it does not wait at the program for ever.
lost() ->
    port_standin:mode(hold),
    {ok, _} = start(5, 30),
    _ = held(),
    megaphone_test:until(fun() -> element(2, counted()) >= 2 end),
    ?assert(lists:member(<<"heartbeat">>, port_standin:unsubscribed())),
    ?assertMatch({0, _, 0}, counted()),
    ?assert(age() > 0.05).

lost_with_the_program() ->
    port_standin:mode(hold),
    {ok, _} = start(5),
    _ = held(),
    port_standin:disconnect(),
    megaphone_test:until(fun() -> counted() =:= {0, 1, 0} end),
    %% While it is gone there is none to lose.
    Age = age(),
    megaphone_test:until(fun() -> age() > Age + 0.1 end),
    ?assertEqual({0, 1, 0}, counted()),
    port_standin:mode(auto),
    port_standin:connect(),
    megaphone_test:until(fun() -> element(1, counted()) >= 1 end).

%% The answer to one that was lost is not taken for the next one's.
an_answer_too_late() ->
    port_standin:mode(hold),
    {ok, Pid} = start(5, 30),
    {N, Body} = held(),
    megaphone_test:until(fun() -> element(2, counted()) >= 1 end),
    Pid ! {megaphone_batch, <<"heartbeat">>, N, {done, port_standin:format(Body)}},
    _ = sys:get_state(Pid),
    ?assertMatch({0, _, 0}, counted()).

failed() ->
    port_standin:mode(hold),
    {ok, _} = start(5),
    {N, _} = held(),
    port_standin:answer(N, {failed, crash, <<"the workers died">>}),
    megaphone_test:until(fun() -> counted() =:= {0, 0, 1} end),
    ?assertEqual([<<"heartbeat">>], port_standin:unsubscribed()),
    megaphone_test:until(fun() -> [M || {M, _} <- port_standin:held(), M > N] =/= [] end).

another_text() ->
    port_standin:mode(hold),
    {ok, _} = start(5),
    {N, _} = held(),
    port_standin:answer(N, {done, term_to_binary({[<<"somebody else's">>], []})}),
    megaphone_test:until(fun() -> counted() =:= {0, 0, 1} end),
    {M, _} = megaphone_test:until(fun() -> case port_standin:held() of [] -> false; [One] -> One end end),
    port_standin:answer(M, {done, <<"no term">>}),
    megaphone_test:until(fun() -> counted() =:= {0, 0, 2} end).

overload() ->
    port_standin:mode(overload),
    {ok, _} = start(5),
    megaphone_test:until(fun() -> element(3, counted()) >= 2 end),
    port_standin:mode(auto),
    megaphone_test:until(fun() -> element(1, counted()) >= 1 end).

no_port_no_heartbeat() ->
    port_standin:stop(),
    port_standin:start(disconnected),
    {ok, _} = start(5),
    megaphone_test:until(fun() -> age() > 0.1 end),
    ?assertEqual({0, 0, 0}, counted()),
    ?assertEqual([], port_standin:sent()).

switched_off_and_on() ->
    {ok, Pid} = start(infinity),
    ?assertEqual(none, age()),
    ok = megaphone_heartbeat:reload(#{pipeline_heartbeat_interval => 5}),
    megaphone_test:until(fun() -> element(1, counted()) >= 1 end),
    ok = megaphone_heartbeat:reload(#{pipeline_heartbeat_interval => infinity}),
    _ = sys:get_state(Pid),
    ?assertEqual(none, age()),
    Sent = length(port_standin:sent()),
    receive after 50 -> ok end,
    ?assert(length(port_standin:sent()) =< Sent + 1).
