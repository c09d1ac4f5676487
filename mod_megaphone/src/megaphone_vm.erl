%%% What the Erlang VM counts by itself; all of it is read in constant time.
-module(megaphone_vm).

-export([metrics/0]).

%% Bytes of /proc/self/status that are read (proc(5)); it has a few thousand.
-define(MAX_STATUS, 65536).

-spec metrics() -> megaphone_metrics:metrics().
metrics() ->
    maps:merge(maps:merge(limits(), resident()), maps:merge(now_metrics(), totals())).

%% How much there is of what is limited.
limits() ->
    maps:from_list(
      [{name(Name, Suffix), erlang:system_info(Key)}
       || {Name, Count, Limit} <- [{"processes", process_count, process_limit},
                                   {"ports", port_count, port_limit},
                                   {"atoms", atom_count, atom_limit},
                                   {"ets_tables", ets_count, ets_limit}],
          {Suffix, Key} <- [{"", Count}, {"_limit", Limit}]]).

name(Name, Suffix) ->
    list_to_binary(["vm_", Name, Suffix]).

now_metrics() ->
    #{<<"vm_memory_bytes">> => memory(),
      <<"vm_run_queue_tasks">> => run_queues(),
      <<"vm_schedulers_online">> => erlang:system_info(schedulers_online)}.

%% The parts are read one after the other: what is between them goes to `other`.
memory() ->
    Memory = erlang:memory(),
    Part = fun(Key) -> proplists:get_value(Key, Memory) end,
    Named = [processes, atom, binary, code, ets],
    Other = Part(total) - lists:sum([Part(Key) || Key <- Named]),
    [{atom_to_binary(Key, utf8), Part(Key)} || Key <- Named] ++ [{<<"other">>, max(0, Other)}].

%% Now and not with the machine's sample: held against the sessions of now it says what one takes.
resident() ->
    case file:open("/proc/self/status", [read, raw, binary]) of
        {ok, File} ->
            try
                {ok, Status} = file:read(File, ?MAX_STATUS),
                case re:run(Status, "^VmRSS:\\s+([0-9]+) kB",
                            [multiline, {capture, all_but_first, binary}]) of
                    {match, [Kilobytes]} ->
                        #{<<"vm_resident_memory_bytes">> => binary_to_integer(Kilobytes) * 1024};
                    nomatch ->
                        #{}
                end
            after
                ok = file:close(File)
            end;
        {error, _} ->
            #{}
    end.

%% One number a scheduler, then those of the two queues that all dirty schedulers share
%% (erlang:statistics/1, run_queue_lengths_all).
run_queues() ->
    {Normal, [DirtyCpu, DirtyIo]} =
        lists:split(erlang:system_info(schedulers), erlang:statistics(run_queue_lengths_all)),
    [{<<"normal">>, lists:sum(Normal)}, {<<"dirty_cpu">>, DirtyCpu}, {<<"dirty_io">>, DirtyIo}].

totals() ->
    {Reductions, _} = erlang:statistics(reductions),
    {Collections, Words, _} = erlang:statistics(garbage_collection),
    {Switches, _} = erlang:statistics(context_switches),
    {{input, Received}, {output, Sent}} = erlang:statistics(io),
    #{<<"vm_reductions_total">> => Reductions,
      <<"vm_garbage_collections_total">> => Collections,
      <<"vm_garbage_collected_bytes_total">> => Words * erlang:system_info(wordsize),
      <<"vm_context_switches_total">> => Switches,
      <<"vm_io_bytes_total">> => [{<<"received">>, Received}, {<<"sent">>, Sent}]}.
