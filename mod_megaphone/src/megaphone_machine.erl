%%% What the machine has for the node: memory and processors, within its control group, and file
%%% descriptors.
-module(megaphone_machine).

-export([sample/1, descriptors/1, memory/2, cpus/2]).

-include_lib("kernel/include/file.hrl").

-define(PROC, "/proc").
-define(CGROUP, "/sys/fs/cgroup").

-spec sample(none) -> megaphone_sampler:sample(none).
sample(none) ->
    #{metrics => maps:from_list(descriptors(?PROC) ++ memory(?PROC, ?CGROUP)
                                ++ [{<<"system_cpus">>, cpus(?PROC, ?CGROUP)}]),
      next => none}.

%% @doc The descriptors that this process has, and may have.
-spec descriptors(file:name()) -> [{binary(), non_neg_integer()}].
descriptors(Proc) ->
    Directory = filename:join([Proc, "self", "fd"]),
    Open = case file:read_file_info(Directory, [raw]) of
               %% Linux 6.2 and later say it at once (proc(5)).
               {ok, #file_info{size = Size}} when Size > 0 -> [Size];
               _ -> [length(Names) || {ok, Names} <- [file:list_dir(Directory)]]
           end,
    Limit = [binary_to_integer(Soft)
             || {ok, Text} <- [file:read_file(filename:join([Proc, "self", "limits"]))],
                {match, [Soft]} <- [re:run(Text, "^Max open files +([0-9]+)",
                                           [multiline, {capture, all_but_first, binary}])]],
    [{<<"vm_file_descriptors">>, N} || N <- Open] ++
        [{<<"vm_file_descriptors_limit">>, N} || N <- Limit].

%% @doc The machine's memory, or the least that a control group leaves of it.
-spec memory(file:name(), file:name()) -> [{binary(), non_neg_integer()}].
memory(Proc, Cgroup) ->
    case file:read_file(filename:join(Proc, "meminfo")) of
        {ok, Text} ->
            Groups = megaphone_cgroup:memory(Proc, Cgroup),
            Total = lists:min([kilobytes("MemTotal", Text) | [Limit || {Limit, _} <- Groups]]),
            Free = lists:min([kilobytes("MemAvailable", Text)
                              | [max(0, Limit - Used) || {Limit, Used} <- Groups]]),
            [{<<"system_memory_bytes">>, Total}, {<<"system_memory_available_bytes">>, Free}];
        {error, _} ->
            []
    end.

kilobytes(Key, Text) ->
    case re:run(Text, ["^", Key, ": +([0-9]+) kB"], [multiline, {capture, all_but_first, binary}]) of
        {match, [Number]} -> binary_to_integer(Number) * 1024;
        nomatch -> 0
    end.

%% @doc Processors that the node may use: a control group may leave a part of one.
-spec cpus(file:name(), file:name()) -> number().
cpus(Proc, Cgroup) ->
    Available = case erlang:system_info(logical_processors_available) of
                    unknown -> erlang:system_info(schedulers_online);
                    Count -> Count
                end,
    lists:min([Available | megaphone_cgroup:cpus(Proc, Cgroup)]).
