-module(megaphone_mailboxes_tests).

-include_lib("eunit/include/eunit.hrl").

-define(MAX, <<"vm_mailbox_messages_max">>).
-define(SUM, <<"vm_mailbox_messages">>).

idle() ->
    spawn_link(fun() -> receive {stop, now} -> ok end end).

stop(Pid) ->
    unlink(Pid),
    exit(Pid, kill).

%% The longest of many, in whichever slice of the walk it is.
longest_test_() ->
    {timeout, 60,
     fun() ->
             Before = [idle() || _ <- lists:seq(1, 1500)],
             Full = idle(),
             After = [idle() || _ <- lists:seq(1, 1500)],
             [Full ! N || N <- lists:seq(1, 321)],
             #{metrics := #{?MAX := Max, ?SUM := Sum}} = megaphone_mailboxes:sample(none),
             ?assertEqual(321, Max),
             ?assert(Sum >= 321 andalso Sum < 1000),
             lists:foreach(fun stop/1, [Full | Before ++ After])
     end}.

registered_test() ->
    Full = idle(),
    true = register(?MODULE, Full),
    [Full ! N || N <- lists:seq(1, 12)],
    #{metrics := Metrics, detail := Detail} = megaphone_mailboxes:registered(none),
    ?assertEqual(#{?MAX => 12}, Metrics),
    #{<<"detailed_mailbox_messages">> := Rows} = Detail,
    ?assertEqual(12, proplists:get_value(atom_to_binary(?MODULE, utf8), Rows)),
    ?assertEqual(0, proplists:get_value(<<"kernel_sup">>, Rows)),
    stop(Full).

%% The walk works a hundredth of the time that it takes.
rests_test_() ->
    {timeout, 60,
     fun() ->
             Idle = [idle() || _ <- lists:seq(1, 20000)],
             Self = self(),
             {Pid, Monitor} = spawn_monitor(fun() ->
                 {Took, _} = timer:tc(megaphone_mailboxes, sample, [none]),
                 Self ! {took, Took}
             end),
             receive {'DOWN', Monitor, _, Pid, normal} -> ok end,
             Took = receive {took, Microseconds} -> Microseconds end,
             %% The machine may have had something else to do: the shortest of some counts.
             Look = fun() -> [process_info(P, message_queue_len) || P <- erlang:processes()] end,
             Work = lists:min([element(1, timer:tc(Look)) || _ <- lists:seq(1, 10)]),
             ?assert(Took > 20 * Work, {Took, Work}),
             lists:foreach(fun stop/1, Idle)
     end}.
