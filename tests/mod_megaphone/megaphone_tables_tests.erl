-module(megaphone_tables_tests).

-include_lib("eunit/include/eunit.hrl").

tables_test_() ->
    {setup,
     fun() ->
             application:set_env(mnesia, dir, "mnesia"),
             ok = mnesia:create_schema([node()]),
             ok = mnesia:start(),
             {atomic, ok} = mnesia:create_table(few, [{disc_only_copies, [node()]}]),
             [{atomic, ok} = mnesia:create_table(name(N), [{ram_copies, [node()]}]) || N <- lists:seq(1, 12)],
             [ok = mnesia:dirty_write(name(N), {name(N), Key, binary:copy(<<0>>, 100)})
              || N <- lists:seq(1, 12), Key <- lists:seq(1, 10 * N)],
             ok
     end,
     fun(_) -> stopped = mnesia:stop() end,
     [fun largest_first/0, fun all_in_detail/0, fun transactions/0,
      ?_assertEqual([{<<"running">>, 1}, {<<"stopped">>, 0}], value(<<"cluster_nodes">>))]}.

name(N) ->
    list_to_atom("table_" ++ integer_to_list(N)).

value(Key) ->
    #{metrics := #{Key := Value}} = megaphone_tables:sample(none),
    Value.

largest_first() ->
    Records = value(<<"mnesia_table_records">>),
    Memory = value(<<"mnesia_table_memory_bytes">>),
    ?assertEqual(10, length(Records)),
    ?assertEqual([Name || {Name, _} <- Records], [Name || {Name, _} <- Memory]),
    ?assertEqual(120, proplists:get_value(<<"table_12">>, Records)),
    Bytes = proplists:get_value(<<"table_12">>, Memory),
    ?assertEqual(ets:info(table_12, memory) * erlang:system_info(wordsize), Bytes),
    ?assert(is_map_key(<<"other">>, maps:from_list(Records))),
    ?assertEqual(lists:sum([mnesia:table_info(Table, size) || Table <- mnesia:system_info(tables)]),
                 lists:sum([N || {_, N} <- Records])).

all_in_detail() ->
    #{detail := #{<<"detailed_mnesia_table_records">> := Records,
                  <<"detailed_mnesia_table_memory_bytes">> := Memory}} = megaphone_tables:sample(none),
    ?assertEqual(lists:sort([atom_to_binary(Table, utf8) || Table <- mnesia:system_info(tables)]),
                 lists:sort([Name || {Name, _} <- Records])),
    %% A file's bytes, not words.
    ?assertEqual(filelib:file_size("mnesia/few.DAT"), proplists:get_value(<<"few">>, Memory)).

transactions() ->
    Count = fun(Outcome) -> proplists:get_value(Outcome, value(<<"mnesia_transactions_total">>)) end,
    {Committed, Failed} = {Count(<<"committed">>), Count(<<"failed">>)},
    {atomic, _} = mnesia:transaction(fun() -> mnesia:write(table_1, {table_1, a, b}, write) end),
    {aborted, _} = mnesia:transaction(fun() -> mnesia:abort(no) end),
    ?assertEqual({Committed + 1, Failed + 1}, {Count(<<"committed">>), Count(<<"failed">>)}).
