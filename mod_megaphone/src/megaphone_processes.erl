%%% The Python processes that have a proxy at the node. Held by the owner of the port, which
%%% monitors the proxies.
%%%
%%% A proxy's number is never given to another one while the program lives. The table holds the
%%% proxies' pids, for whoever asks whether a process is one.
-module(megaphone_processes).

-export([new/0, attach/4, route/2, down/3, wait/2, release/1, disconnected/1, count/1]).
-export([is_proxy/1]).
-export_type([processes/0, link/0]).

-record(process, {pid :: pid(),
                  monitor :: reference(),
                  %% Python has ended it: its proxy's end is no news there.
                  ended = false :: boolean()}).

-record(processes, {link :: link(),
                    numbers = #{} :: #{Process :: pos_integer() => #process{}},
                    monitors = #{} :: #{reference() => Process :: pos_integer()},
                    %% Proxies that are told later that their signals are on the way.
                    waiting = [] :: [gen_statem:from()]}).

-opaque processes() :: #processes{}.
%% What the owner's messages to proxies begin with, so that nobody else's look like them.
-type link() :: reference().

%% @doc To be called once in the life of the owner.
-spec new() -> processes().
new() ->
    ?MODULE = ets:new(?MODULE, [named_table, protected, {read_concurrency, true}]),
    #processes{link = make_ref()}.

%% @doc Whether a process is one of the proxies. Any process may ask.
-spec is_proxy(pid()) -> boolean().
is_proxy(Pid) ->
    try ets:member(?MODULE, Pid)
    catch error:badarg -> false
    end.

%% @doc From now on the proxy is sent {Link, signals, [{Kind, Ref, Binary}]} and, when the
%% connection ends, {Link, disconnected}.
-spec attach(pos_integer(), pid(), pos_integer(), processes()) ->
          {ok, link(), processes()} | {error, badarg | overload}.
attach(Process, _Pid, _Max, #processes{numbers = Numbers}) when is_map_key(Process, Numbers) ->
    {error, badarg};
attach(_Process, _Pid, Max, #processes{numbers = Numbers}) when map_size(Numbers) >= Max ->
    {error, overload};
attach(Process, Pid, _Max, Processes = #processes{link = Link, numbers = Numbers,
                                                  monitors = Monitors}) ->
    Monitor = erlang:monitor(process, Pid),
    true = ets:insert(?MODULE, {Pid}),
    {ok, Link, Processes#processes{
                 numbers = Numbers#{Process => #process{pid = Pid, monitor = Monitor}},
                 monitors = Monitors#{Monitor => Process}}}.

%% @doc Hands what the program sent to the proxies, in one message each. What is for a process
%% that has ended is dropped.
-spec route([megaphone_protocol:signal()], processes()) -> processes().
route(Signals, Processes = #processes{link = Link, numbers = Numbers}) ->
    Sorted = lists:foldr(fun({Process, Kind, Ref, Binary}, Acc) ->
                                 Rest = maps:get(Process, Acc, []),
                                 Acc#{Process => [{Kind, Ref, Binary} | Rest]}
                         end, #{}, Signals),
    Processes#processes{numbers = maps:fold(fun(Process, List, Acc) ->
                                                    deliver(Process, List, Link, Acc)
                                            end, Numbers, Sorted)}.

deliver(Process, Signals, Link, Numbers) ->
    case Numbers of
        #{Process := Known = #process{pid = Pid, ended = false}} ->
            Pid ! {Link, signals, Signals},
            case lists:keymember(exit, 1, Signals) of
                true -> Numbers#{Process := Known#process{ended = true}};
                false -> Numbers
            end;
        _ ->
            Numbers
    end.

%% @doc A proxy is gone, if the monitor is one of these. `died`: Python does not know it yet.
-spec down(reference(), term(), processes()) ->
          {ended, processes()} | {died, megaphone_signals:encoded(), processes()} | error.
down(Monitor, Reason, Processes = #processes{numbers = Numbers, monitors = Monitors}) ->
    case maps:take(Monitor, Monitors) of
        {Process, RestMonitors} ->
            {#process{pid = Pid, ended = Ended}, RestNumbers} = maps:take(Process, Numbers),
            true = ets:delete(?MODULE, Pid),
            Rest = Processes#processes{numbers = RestNumbers, monitors = RestMonitors},
            case Ended of
                true -> {ended, Rest};
                false -> {died, megaphone_signals:encode(Process, exit, 0, {Pid, why(Reason)}), Rest}
            end;
        error ->
            error
    end.

why(Reason) when is_atom(Reason) -> Reason;
why(_) -> crash.

%% @doc A proxy that is to be answered when less waits to be written.
-spec wait(gen_statem:from(), processes()) -> processes().
wait(From, Processes = #processes{waiting = Waiting}) ->
    Processes#processes{waiting = [From | Waiting]}.

-spec release(processes()) -> {[gen_statem:from()], processes()}.
release(Processes = #processes{waiting = Waiting}) ->
    {lists:reverse(Waiting), Processes#processes{waiting = []}}.

%% @doc Tells all proxies, which end with that, and forgets them. Those that wait are to be
%% answered.
-spec disconnected(processes()) -> {[gen_statem:from()], processes()}.
disconnected(#processes{link = Link, numbers = Numbers, waiting = Waiting}) ->
    true = ets:delete_all_objects(?MODULE),
    lists:foreach(fun(#process{pid = Pid, monitor = Monitor}) ->
                          true = erlang:demonitor(Monitor, [flush]),
                          Pid ! {Link, disconnected}
                  end, maps:values(Numbers)),
    {lists:reverse(Waiting), #processes{link = make_ref()}}.

-spec count(processes()) -> non_neg_integer().
count(#processes{numbers = Numbers}) ->
    map_size(Numbers).
