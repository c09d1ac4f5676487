%%% What the operating system grants the VM, as Linux tells it: memory, descriptors, processors.
%%%
%%% What a system does not tell is left out. Everything is small and read without any process
%%% between: the file server may be busy.
-module(megaphone_system).

-export([metrics/0]).
%% For tests: what the files say.
-export([resident/1, descriptor_limit/1, memory/1, cgroup_memory/2, cgroup/1]).

-include_lib("kernel/include/file.hrl").

%% Bytes of such a file that are read.
-define(MAX_BYTES, 65536).
-define(CGROUPS, "/sys/fs/cgroup").
%% Levels of control groups that are looked at.
-define(MAX_LEVELS, 16).
%% Beyond so many ports the descriptors are not counted one by one (see descriptors/0).
-define(MAX_LISTED, 10000).

-type bytes() :: non_neg_integer().

-spec metrics() -> megaphone_metrics:metrics().
metrics() ->
    {Total, Available} = system_memory(),
    known([{<<"vm_resident_memory_bytes">>, from("/proc/self/status", fun resident/1)},
           {<<"vm_file_descriptors">>, descriptors()},
           {<<"vm_file_descriptors_limit">>, from("/proc/self/limits", fun descriptor_limit/1)},
           {<<"system_memory_bytes">>, Total},
           {<<"system_memory_available_bytes">>, Available},
           {<<"system_cpus">>, cpus()}]).

known(Metrics) ->
    maps:from_list([Metric || Metric = {_, Value} <- Metrics, is_integer(Value)]).

cpus() ->
    case erlang:system_info(logical_processors_available) of
        unknown -> erlang:system_info(logical_processors_online);
        Available -> Available
    end.

%% Since Linux 6.2 the directory's size is the number of its entries. Before, they are counted,
%% and where that would take long, the sockets stand for all.
descriptors() ->
    case file:read_file_info("/proc/self/fd", [raw]) of
        {ok, #file_info{size = Size}} when Size > 0 -> Size;
        {ok, _} -> listed(erlang:system_info(port_count));
        {error, _} -> undefined
    end.

listed(Ports) when Ports > ?MAX_LISTED ->
    Ports;
listed(_Ports) ->
    case prim_file:list_dir("/proc/self/fd") of
        %% One of them is the directory's own.
        {ok, Names} -> length(Names) - 1;
        {error, _} -> undefined
    end.

%% What the machine has, or the control group and those that it is in, if they have less.
system_memory() ->
    case from("/proc/meminfo", fun memory/1) of
        {Total, Available} ->
            lists:foldl(fun({Limit, Left}, {T, A}) -> {min(Limit, T), min(Left, A)} end,
                        {Total, Available}, cgroup_limits());
        undefined ->
            {undefined, undefined}
    end.

cgroup_limits() ->
    case from("/proc/self/cgroup", fun cgroup/1) of
        undefined -> [];
        Path -> limits(Path, ?MAX_LEVELS, [])
    end.

limits(_Path, 0, Limits) ->
    Limits;
limits(Path, Levels, Limits) ->
    File = fun(Name) -> ?CGROUPS ++ filename:join(Path, Name) end,
    Max = from(File("memory.max"), fun(Text) -> Text end),
    Current = from(File("memory.current"), fun(Text) -> Text end),
    Stat = from(File("memory.stat"), fun(Text) -> Text end),
    Found = case cgroup_memory({Max, Current}, Stat) of
                none -> Limits;
                Limit -> [Limit | Limits]
            end,
    case filename:dirname(Path) of
        Path -> Found;
        Above -> limits(Above, Levels - 1, Found)
    end.

%% Reading and parsing.

from(Name, Parse) ->
    case file:open(Name, [read, raw, binary]) of
        {ok, File} ->
            try file:read(File, ?MAX_BYTES) of
                {ok, Text} -> Parse(Text);
                _ -> undefined
            after
                ok = file:close(File)
            end;
        {error, _} ->
            undefined
    end.

%% @doc Resident bytes, of /proc/self/status (proc(5)).
-spec resident(binary()) -> bytes() | undefined.
resident(Status) ->
    kilobytes("VmRSS", Status).

%% @doc The soft limit, of /proc/self/limits (proc(5)).
-spec descriptor_limit(binary()) -> pos_integer() | undefined.
descriptor_limit(Limits) ->
    number("^Max open files +([0-9]+)", Limits).

%% @doc Total and available bytes, of /proc/meminfo (proc(5)).
-spec memory(binary()) -> {bytes(), bytes()} | undefined.
memory(Meminfo) ->
    case {kilobytes("MemTotal", Meminfo), kilobytes("MemAvailable", Meminfo)} of
        {Total, Available} when is_integer(Total), is_integer(Available) -> {Total, Available};
        _ -> undefined
    end.

%% @doc The path in the one hierarchy of version 2, of /proc/self/cgroup (cgroups(7)).
-spec cgroup(binary()) -> string() | undefined.
cgroup(Cgroups) ->
    case re:run(Cgroups, "^0::(/.*)$", [multiline, {capture, all_but_first, list}]) of
        {match, [Path]} -> Path;
        nomatch -> undefined
    end.

%% @doc The limit and what is left of it, of memory.max, memory.current and memory.stat; what the
%% page cache holds and has not used of late can be taken back.
-spec cgroup_memory({binary() | undefined, binary() | undefined}, binary() | undefined) ->
          {bytes(), bytes()} | none.
cgroup_memory({<<"max", _/binary>>, _}, _) ->
    none;
cgroup_memory({Max, Current}, Stat) when is_binary(Max), is_binary(Current), is_binary(Stat) ->
    case {number("^([0-9]+)", Max), number("^([0-9]+)", Current),
          number("^inactive_file ([0-9]+)", Stat)} of
        {Limit, Used, Cache} when is_integer(Limit), is_integer(Used), is_integer(Cache) ->
            {Limit, max(0, Limit - (Used - Cache))};
        _ ->
            none
    end;
cgroup_memory(_, _) ->
    none.

kilobytes(Key, Text) ->
    case number(["^", Key, ":\\s+([0-9]+) kB"], Text) of
        undefined -> undefined;
        Kilobytes -> Kilobytes * 1024
    end.

number(Pattern, Text) ->
    case re:run(Text, Pattern, [multiline, {capture, all_but_first, binary}]) of
        {match, [Digits]} -> binary_to_integer(Digits);
        nomatch -> undefined
    end.
