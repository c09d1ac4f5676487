%%% The Python processes that have a proxy at the node. Held by the owner of the port, which
%%% monitors the proxies.
%%%
%%% A proxy's number is never given to another one while the program lives. The table holds the
%%% proxies' pids, for whoever asks whether a process is one.
-module(megaphone_processes).

-export([new/0, attach/5, send/4, route/2, down/2, release/2, disconnected/1, count/1]).
-export([is_proxy/1]).
-export_type([processes/0, link/0]).

-record(process, {pid :: pid(),
                  monitor :: reference(),
                  %% Python has ended it: its proxy's end is no news there.
                  ended = false :: boolean()}).

-record(processes, {link :: link(),
                    numbers = #{} :: #{Process :: pos_integer() => #process{}},
                    monitors = #{} :: #{reference() => Process :: pos_integer()},
                    %% Proxies that are answered later: so much waits to be written.
                    waiting = [] :: [gen_statem:from()],
                    %% Ends that Python has not been told: for them there is always room.
                    untold = megaphone_signals:empty() :: megaphone_signals:batch()}).

-opaque processes() :: #processes{}.
-type life() :: megaphone_life:life().
%% What the owner does, and goes on with.
-type done() :: {[gen_statem:action()], life(), processes()}.
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
-spec attach(pos_integer(), pid(), Max :: pos_integer(), life(), processes()) ->
          {ok, #{link := link(), max_frame := pos_integer()}, processes()}
        | {error, badarg | overload | disconnected}.
attach(Process, Pid, Max, Life, Processes = #processes{link = Link, numbers = Numbers,
                                                       monitors = Monitors}) ->
    #{capabilities := Capabilities, max_frame := MaxFrame} = megaphone_life:peer(Life),
    case lists:member(<<"processes">>, Capabilities) of
        false -> {error, disconnected};
        true when is_map_key(Process, Numbers) -> {error, badarg};
        true when map_size(Numbers) >= Max -> {error, overload};
        true ->
            Monitor = erlang:monitor(process, Pid),
            true = ets:insert(?MODULE, {Pid}),
            {ok, #{link => Link, max_frame => MaxFrame},
             Processes#processes{numbers = Numbers#{Process => #process{pid = Pid, monitor = Monitor}},
                                 monitors = Monitors#{Monitor => Process}}}
    end.

%% @doc Queues signals of a proxy's, which is answered at once or when there is room.
-spec send(gen_statem:from(), megaphone_signals:batch(), life(), processes()) -> done().
send(From, Batch, Life, Processes = #processes{waiting = Waiting}) ->
    case megaphone_life:signals(Batch, Life) of
        {ok, Queued} ->
            case megaphone_life:is_full(Queued) of
                true -> {[], Queued, Processes#processes{waiting = [From | Waiting]}};
                false -> {[{reply, From, ok}], Queued, Processes}
            end;
        Refused ->
            {[{reply, From, {error, Refused}}], Life, Processes}
    end.

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

%% @doc A proxy is gone, if the monitor is one of these. Python is told with the next release/2.
-spec down(reference(), processes()) -> {ok, processes()} | error.
down(Monitor, Processes = #processes{numbers = Numbers, monitors = Monitors, untold = Untold}) ->
    case maps:take(Monitor, Monitors) of
        {Process, RestMonitors} ->
            {#process{pid = Pid, ended = Ended}, RestNumbers} = maps:take(Process, Numbers),
            true = ets:delete(?MODULE, Pid),
            News = [megaphone_signals:encode(Process, gone, 0, killed) || not Ended],
            {ok, Processes#processes{numbers = RestNumbers, monitors = RestMonitors,
                                     untold = lists:foldl(fun megaphone_signals:add/2, Untold, News)}};
        error ->
            error
    end.

%% @doc Lets the proxies go on, if there is room.
-spec release(life(), processes()) -> done().
release(Life, Processes = #processes{waiting = Waiting, untold = Untold}) ->
    case megaphone_life:is_full(Life) of
        true ->
            {[], Life, Processes};
        false ->
            {Told, Rest} = tell(megaphone_signals:count(Untold), Untold, Life),
            {[{reply, From, ok} || From <- Waiting], Told,
             Processes#processes{waiting = [], untold = Rest}}
    end.

tell(0, Untold, Life) ->
    {Life, Untold};
tell(_, Untold, Life) ->
    case megaphone_life:signals(Untold, Life) of
        {ok, Queued} -> {Queued, megaphone_signals:empty()};
        _ -> {Life, Untold}
    end.

%% @doc Tells all proxies, which end with that, and forgets them. Those that wait are to be
%% answered.
-spec disconnected(processes()) -> {[gen_statem:from()], processes()}.
disconnected(#processes{link = Link, numbers = Numbers, waiting = Waiting}) ->
    true = ets:delete_all_objects(?MODULE),
    lists:foreach(fun(#process{pid = Pid, monitor = Monitor}) ->
                          true = erlang:demonitor(Monitor, [flush]),
                          Pid ! {Link, disconnected}
                  end, maps:values(Numbers)),
    {Waiting, #processes{link = make_ref()}}.

-spec count(processes()) -> non_neg_integer().
count(#processes{numbers = Numbers}) ->
    map_size(Numbers).
