%%% The callers and the killer of test_stampede.py.
-module(stampede).

-export([run/4, inventory/1]).

%% @doc Calls and kills for so long: what was counted, or what a caller got that it should not.
-spec run([atom()], pos_integer(), pos_integer(), pos_integer()) ->
          {counted, Answered :: integer(), Failed :: integer(), Kills :: [integer()]}
        | {wrong, [term()]}.
run(Names, Callers, Milliseconds, Pace) ->
    End = now_ms() + Milliseconds,
    Pids = [spawn_monitor(fun() -> exit(caller(Names, End, 0, 0)) end)
            || _ <- lists:seq(1, Callers)],
    Kills = killer(Names, End, Pace, #{}),
    Counts = [receive {'DOWN', Monitor, process, Pid, Reason} -> Reason end
              || {Pid, Monitor} <- Pids],
    case [Other || Other <- Counts, not is_counted(Other)] of
        [] ->
            {counted, lists:sum([A || {_, A, _} <- Counts]), lists:sum([F || {_, _, F} <- Counts]),
             [maps:get(Kind, Kills, 0) || Kind <- [kill, raise, exit]]};
        Wrong ->
            {wrong, Wrong}
    end.

is_counted({counted, _, _}) -> true;
is_counted(_) -> false.

caller(Names, End, Answered, Failed) ->
    case now_ms() < End of
        false ->
            %% What comes now is nobody's.
            receive Stray -> {stray, Stray} after 1000 -> {counted, Answered, Failed} end;
        true ->
            Name = pick(Names),
            Number = erlang:unique_integer(),
            Kind = pick([now, later]),
            try gen_server:call(Name, {Kind, Number}, 30000) of
                Number -> caller(Names, End, Answered + 1, Failed);
                Answer -> {wrong_answer, Name, {Kind, Number}, Answer}
            catch
                exit:{Reason, {gen_server, call, [Name | _]}} ->
                    case is_expected(Reason) of
                        true ->
                            receive Stray -> {stray, Stray}
                            after 5 -> caller(Names, End, Answered, Failed + 1)
                            end;
                        false ->
                            {unexpected, Name, Reason}
                    end
            end
    end.

is_expected(noproc) -> true;
is_expected(killed) -> true;
is_expected(trampled) -> true;
is_expected(disconnected) -> true;
is_expected({{python_error, <<"ValueError">>, <<"on purpose">>}, _}) -> true;
is_expected(_) -> false.

killer(Names, End, Pace, Kills) ->
    case now_ms() < End of
        false ->
            Kills;
        true ->
            Kind = pick([kill, raise, exit]),
            Count = case whereis(pick(Names)) of
                        undefined -> 0;
                        Pid -> strike(Kind, Pid), 1
                    end,
            receive after Pace -> ok end,
            killer(Names, End, Pace, maps:update_with(Kind, fun(N) -> N + Count end, Count, Kills))
    end.

strike(kill, Pid) -> exit(Pid, kill);
strike(raise, Pid) -> gen_server:cast(Pid, raise);
strike(exit, Pid) -> exit(Pid, trampled).

pick(List) -> lists:nth(rand:uniform(length(List)), List).

now_ms() -> erlang:monotonic_time(millisecond).

%% @doc What there is, as far as it is to be the same afterwards: processes by what they are, names,
%% and of each server its proxy's links and monitors.
-spec inventory([atom()]) -> [{atom(), term()}].
inventory(Names) ->
    [{processes, count([kind(Pid) || Pid <- processes()])},
     {names, lists:sort(registered())},
     {proxies, [{Name, [proxy(Item, whereis(Name)) || Item <- [links, monitors, monitored_by]]}
                || Name <- Names]},
     {owner, proxy(monitors, whereis(megaphone_port))},
     {children, lists:sort(supervisor:count_children(megaphone_proxies))},
     {ports, length(erlang:ports())}].

proxy(_, undefined) -> undefined;
proxy(Item, Pid) ->
    case process_info(Pid, Item) of
        {Item, List} -> length(List);
        undefined -> undefined
    end.

kind(Pid) ->
    case process_info(Pid, [registered_name, initial_call, dictionary]) of
        [{registered_name, Name} | _] when is_atom(Name) -> Name;
        [_, {initial_call, Call}, {dictionary, Dictionary}] ->
            proplists:get_value('$initial_call', Dictionary, Call);
        undefined -> ended
    end.

count(List) ->
    lists:sort(maps:to_list(lists:foldl(fun(Key, Counts) ->
        maps:update_with(Key, fun(N) -> N + 1 end, 1, Counts)
    end, #{}, List))).
