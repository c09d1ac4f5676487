%%% Mnesia: its tables on this node, its transactions, and who is in the cluster.
-module(megaphone_tables).

-export([sample/1]).

-spec sample(none) -> megaphone_sampler:sample(none).
sample(none) ->
    All = tables(),
    %% The same tables in both: the largest in memory.
    Rows = megaphone_metrics:largest(3, All),
    #{metrics => #{<<"mnesia_table_records">> => [{Table, Records} || {Table, Records, _} <- Rows],
                   <<"mnesia_table_memory_bytes">> => [{Table, Bytes} || {Table, _, Bytes} <- Rows],
                   <<"mnesia_transactions_total">> => transactions(),
                   <<"cluster_nodes">> => cluster()},
      detail => #{<<"detailed_mnesia_table_records">> => [{Table, N} || {Table, N, _} <- All],
                  <<"detailed_mnesia_table_memory_bytes">> => [{Table, N} || {Table, _, N} <- All]},
      next => none}.

%% Other nodes would have to be asked for tables that are not here.
tables() ->
    lists:append([table(Table) || Table <- mnesia:system_info(local_tables)]).

table(Table) ->
    try {mnesia:table_info(Table, size), mnesia:table_info(Table, memory),
         mnesia:table_info(Table, storage_type)} of
        {Records, Memory, Storage} when is_integer(Records), is_integer(Memory) ->
            [{atom_to_binary(Table, utf8), Records, Memory * unit(Storage)}];
        _ ->
            []
    catch
        %% It has just been deleted.
        exit:{aborted, _} -> []
    end.

%% Dets counts the bytes of its file, ETS words.
unit(disc_only_copies) -> 1;
unit(_) -> erlang:system_info(wordsize).

transactions() ->
    [{Outcome, mnesia:system_info(Key)}
     || {Outcome, Key} <- [{<<"committed">>, transaction_commits},
                           {<<"failed">>, transaction_failures},
                           {<<"restarted">>, transaction_restarts}]].

cluster() ->
    Running = mnesia:system_info(running_db_nodes),
    [{<<"running">>, length(Running)},
     {<<"stopped">>, length(mnesia:system_info(db_nodes) -- Running)}].
