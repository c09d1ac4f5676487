%%% What Linux control groups, of version 1 or 2, allow this process (cgroups(7)).
-module(megaphone_cgroup).

-export([memory/2, cpus/2]).

%% Version 1 says so for "no limit": the largest number of pages.
-define(NO_LIMIT, (1 bsl 60)).

%% @doc The limits on its memory, in bytes, each with what is used of it. Files that the kernel
%% keeps in memory and can let go of are not counted as used.
-spec memory(file:name(), file:name()) -> [{Limit :: pos_integer(), Used :: non_neg_integer()}].
memory(Proc, Cgroup) ->
    [{Limit, max(0, Used - Droppable)}
     || Group <- groups(<<>>, Proc, Cgroup),
        {ok, Limit} <- [number(Group, "memory.max")],
        {ok, Used} <- [number(Group, "memory.current")],
        Droppable <- [stat(Group, "inactive_file")]]
        ++ [{Limit, max(0, Used - Droppable)}
            || Group <- groups(<<"memory">>, Proc, Cgroup),
               {ok, Limit} <- [number(Group, "memory.limit_in_bytes")], Limit < ?NO_LIMIT,
               {ok, Used} <- [number(Group, "memory.usage_in_bytes")],
               Droppable <- [stat(Group, "total_inactive_file")]].

%% @doc The limits on its processors, in processors.
-spec cpus(file:name(), file:name()) -> [float()].
cpus(Proc, Cgroup) ->
    [Quota / Period
     || Group <- groups(<<>>, Proc, Cgroup),
        {ok, Text} <- [file:read_file(filename:join(Group, "cpu.max"))],
        [{Quota, _}, {Period, _}] <- [[string:to_integer(Word) || Word <- string:lexemes(Text, " \n")]],
        is_integer(Quota), is_integer(Period), Period > 0]
        ++ [Quota / Period
            || Group <- groups(<<"cpu">>, Proc, Cgroup),
               {ok, Quota} <- [number(Group, "cpu.cfs_quota_us")], Quota > 0,
               {ok, Period} <- [number(Group, "cpu.cfs_period_us")], Period > 0].

%% The directories of this process's group and of those that it is in. Inside a container the
%% kernel may name a path that is mounted as the root.
groups(Controller, Proc, Cgroup) ->
    case file:read_file(filename:join([Proc, "self", "cgroup"])) of
        {ok, Text} ->
            lists:usort(lists:append([above(Path, root(Controller, Cgroup))
                                      || Line <- binary:split(Text, <<"\n">>, [global, trim_all]),
                                         [_, Controllers, Path] <- [parts(Line)],
                                         is_of(Controller, Controllers)]));
        {error, _} ->
            []
    end.

%% ID:CONTROLLERS:PATH; a path may hold colons.
parts(Line) ->
    case binary:split(Line, <<":">>) of
        [Id, Rest] -> [Id | binary:split(Rest, <<":">>)];
        _ -> []
    end.

is_of(<<>>, Controllers) -> Controllers =:= <<>>;
is_of(Controller, Controllers) ->
    lists:member(Controller, binary:split(Controllers, <<",">>, [global])).

%% Version 2 may be mounted beside version 1.
root(<<>>, Cgroup) ->
    Unified = filename:join(Cgroup, "unified"),
    case filelib:is_dir(Unified) of
        true -> Unified;
        false -> Cgroup
    end;
root(Controller, Cgroup) ->
    filename:join(Cgroup, Controller).

above(Path, Root) ->
    Parts = [Part || Part <- filename:split(Path), Part =/= <<"/">>, Part =/= <<"..">>],
    [filename:join([Root | lists:sublist(Parts, N)]) || N <- lists:seq(0, length(Parts))].

number(Group, File) ->
    case file:read_file(filename:join(Group, File)) of
        {ok, Text} ->
            try {ok, binary_to_integer(string:trim(Text))}
            catch error:badarg -> none
            end;
        {error, _} ->
            none
    end.

stat(Group, Key) ->
    case file:read_file(filename:join(Group, "memory.stat")) of
        {ok, Text} ->
            Pattern = ["^", Key, " ([0-9]+)"],
            case re:run(Text, Pattern, [multiline, {capture, all_but_first, binary}]) of
                {match, [Number]} -> binary_to_integer(Number);
                nomatch -> 0
            end;
        {error, _} ->
            0
    end.
