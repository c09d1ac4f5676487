-module(megaphone_vm_tests).

-include_lib("eunit/include/eunit.hrl").

memory_is_all_of_it_test() ->
    #{<<"vm_memory_bytes">> := Memory} = megaphone_vm:metrics(),
    ?assertEqual([<<"processes">>, <<"atom">>, <<"binary">>, <<"code">>, <<"ets">>, <<"other">>],
                 [Category || {Category, _} <- Memory]),
    Total = erlang:memory(total),
    Sum = lists:sum([Bytes || {_, Bytes} <- Memory]),
    ?assert(abs(Sum - Total) < Total div 10).

counts_move_test() ->
    Count = fun(Name) -> maps:get(Name, megaphone_vm:metrics()) end,
    Processes = Count(<<"vm_processes">>),
    Pids = [spawn(fun() -> receive stop -> ok end end) || _ <- lists:seq(1, 100)],
    ?assert(Count(<<"vm_processes">>) >= Processes + 100),
    [Pid ! stop || Pid <- Pids],
    Tables = Count(<<"vm_ets_tables">>),
    Table = ets:new(?MODULE, []),
    ?assertEqual(Tables + 1, Count(<<"vm_ets_tables">>)),
    ets:delete(Table),
    ?assertEqual(erlang:system_info(process_limit), Count(<<"vm_processes_limit">>)),
    Collections = Count(<<"vm_garbage_collections_total">>),
    erlang:garbage_collect(),
    ?assert(Count(<<"vm_garbage_collections_total">>) > Collections).

%% A queue for each kind of scheduler, whatever their number.
run_queues_test() ->
    #{<<"vm_run_queue_tasks">> := Queues} = megaphone_vm:metrics(),
    ?assertMatch([{<<"normal">>, _}, {<<"dirty_cpu">>, _}, {<<"dirty_io">>, _}], Queues),
    ?assertEqual(erlang:system_info(schedulers) + 2,
                 length(erlang:statistics(run_queue_lengths_all))).

resident_memory_moves_test() ->
    Resident = fun() -> maps:get(<<"vm_resident_memory_bytes">>, megaphone_vm:metrics()) end,
    Before = Resident(),
    Kept = binary:copy(<<1>>, 50_000_000),
    ?assert(Resident() > Before + 40_000_000),
    ?assertEqual(50_000_000, byte_size(Kept)).
