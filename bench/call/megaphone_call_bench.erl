%%% Callers, for the benchmark of calls: each sends a small request and checks that it comes back.
-module(megaphone_call_bench).

-export([one/2, many/3, erlport/3]).

-define(REQUEST(N), {shout, <<"hello">>, N}).

%% @doc One caller, Count calls one after the other: the median in microseconds.
-spec one(atom() | {erlport, pid()}, pos_integer()) -> float().
one(Server, Count) ->
    _ = calls(Server, 100),
    Times = [begin
                 Begin = erlang:monotonic_time(nanosecond),
                 ok = call(Server, N),
                 erlang:monotonic_time(nanosecond) - Begin
             end || N <- lists:seq(1, Count)],
    lists:nth((Count + 1) div 2, lists:sort(Times)) / 1000.

%% @doc So many callers at once, Count calls all together: calls a second.
-spec many(atom() | {erlport, pid()}, pos_integer(), pos_integer()) -> float().
many(Server, Callers, Count) ->
    Each = max(1, Count div Callers),
    Pids = [spawn_monitor(fun() -> receive go -> calls(Server, Each) end end)
            || _ <- lists:seq(1, Callers)],
    Begin = erlang:monotonic_time(nanosecond),
    _ = [Pid ! go || {Pid, _} <- Pids],
    _ = [receive {'DOWN', Monitor, process, Pid, Reason} -> normal = Reason end
         || {Pid, Monitor} <- Pids],
    Callers * Each * 1.0e9 / (erlang:monotonic_time(nanosecond) - Begin).

calls(Server, Count) ->
    lists:foreach(fun(N) -> ok = call(Server, N) end, lists:seq(1, Count)).

call({erlport, Python}, N) ->
    Request = ?REQUEST(N),
    Request = python:call(Python, echo_server, echo, [Request]),
    ok;
call(Server, N) ->
    Request = ?REQUEST(N),
    Request = gen_server:call(Server, Request, 60000),
    ok.

%% @doc Starts erlport's Python; Home holds its ebin and priv.
-spec erlport(string(), string(), [string()]) -> {erlport, pid()}.
erlport(Home, Python, Path) ->
    true = code:add_patha(filename:join(Home, "ebin")),
    {ok, Pid} = python:start([{python, Python}, {python_path, Path}]),
    {erlport, Pid}.
