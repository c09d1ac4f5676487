%%% One turn of a proxy: what it has received, encoded and handed to the owner of the port in as few
%%% requests as the frame's limit allows. Runs in the proxy; no process of its own.
-module(megaphone_turn).

-export([send/4]).
-export_type([entry/0, dropped/0]).

%% Bytes of encoded signals that go to the owner at once, unless one alone has more.
-define(MAX_BYTES, 262144).

-record(turn, {process :: pos_integer(),
               max_frame :: non_neg_integer(),
               max_calls :: pos_integer(),
               now :: integer(),
               present :: megaphone_callers:present(),
               callers :: megaphone_callers:callers(),
               batch = megaphone_signals:empty() :: megaphone_signals:batch(),
               %% Numbers of the batch's calls.
               calls = [] :: [pos_integer()],
               dropped = {0, 0} :: dropped(),
               outcome = ok :: ok | disconnected}).

%% A call's time is known, as the monotonic millisecond at which it ends, or not.
-type entry() :: {call, megaphone_signals:kind(), megaphone_callers:from(), term(),
                  Deadline :: integer() | infinity}
               | {signal, megaphone_signals:kind(), Ref :: non_neg_integer(), term()}.
%% Signals, no calls, for which there was no room, and those that no frame holds.
-type dropped() :: {Overload :: non_neg_integer(), TooLarge :: non_neg_integer()}.

%% @doc Sends the entries, in this order. Calls whose callers have given up are left out, those
%% that cannot be sent exit.
-spec send([entry()], pos_integer(), non_neg_integer(), megaphone_callers:callers()) ->
          {ok | disconnected, dropped(), megaphone_callers:callers()}.
send([], _Process, _MaxFrame, Callers) ->
    {ok, {0, 0}, Callers};
send(Entries, Process, MaxFrame, Callers) ->
    MaxCalls = mod_megaphone:option(max_calls),
    {Present, Known} = look(calls(Entries, 0), MaxCalls, Callers),
    Turn = #turn{process = Process, max_frame = MaxFrame, max_calls = MaxCalls, now = now_ms(),
                 present = Present, callers = Known},
    #turn{outcome = Outcome, dropped = Dropped, callers = Rest} = flush(entries(Entries, Turn)),
    {Outcome, Dropped, Rest}.

calls([{call, _, _, _, _} | Rest], N) -> calls(Rest, N + 1);
calls([_ | Rest], N) -> calls(Rest, N);
calls([], N) -> N.

%% One look for all calls of the turn, and for all that wait if they are too many.
look(Calls, MaxCalls, Callers) ->
    Waiting = megaphone_callers:count(Callers),
    case Calls > 0 andalso Waiting + Calls > MaxCalls of
        true ->
            Present = megaphone_callers:present(Waiting + Calls),
            {Present, megaphone_callers:forget_gone(Present, Callers)};
        false ->
            {megaphone_callers:present(Calls), Callers}
    end.

entries(_, Turn = #turn{outcome = disconnected}) ->
    Turn;
entries([], Turn) ->
    Turn;
entries([{signal, Kind, Ref, Term} | Rest], Turn = #turn{process = Process}) ->
    entries(Rest, signal(megaphone_signals:encode(Process, Kind, Ref, Term), Turn));
entries([{call, Kind, From, Request, Deadline} | Rest], Turn = #turn{present = Present, now = Now}) ->
    case left(Deadline, Now) of
        expired ->
            entries(Rest, Turn);
        Left ->
            case megaphone_callers:is_present(From, Present) of
                true -> entries(Rest, call(Kind, From, Request, Left, Turn));
                false -> entries(Rest, Turn)
            end
    end.

left(infinity, _) -> infinity;
left(Deadline, Now) when Deadline > Now -> Deadline - Now;
left(_, _) -> expired.

signal(Encoded, Turn = #turn{max_frame = Max, dropped = {Overload, TooLarge}}) ->
    case megaphone_signals:size(Encoded) > Max of
        true -> Turn#turn{dropped = {Overload, TooLarge + 1}};
        false -> add(Encoded, [], Turn)
    end.

call(Kind, {Pid, _} = From, Request, Left,
     Turn = #turn{process = Process, max_frame = Max, max_calls = MaxCalls, callers = Callers}) ->
    Term = case Kind of
               system -> {Pid, Request, megaphone_sys:wants_ok()};
               _ -> {Pid, Request, Left}
           end,
    case megaphone_callers:count(Callers) < MaxCalls of
        true ->
            Ref = erlang:unique_integer([positive]),
            Encoded = megaphone_signals:encode(Process, Kind, Ref, Term),
            case megaphone_signals:size(Encoded) of
                Size when Size > Max ->
                    Turn#turn{callers = megaphone_callers:refuse_from(From, {too_large, Size}, Callers)};
                _ ->
                    add(Encoded, [Ref],
                        Turn#turn{callers = megaphone_callers:add(Ref, From, Callers)})
            end;
        false ->
            Turn#turn{callers = megaphone_callers:refuse_from(From, overload, Callers)}
    end.

add(Encoded, Calls, Turn = #turn{max_frame = Max, batch = Batch}) ->
    More = megaphone_signals:add(Encoded, Batch),
    case megaphone_signals:payload_size(More) > min(?MAX_BYTES, Max) of
        true ->
            Flushed = flush(Turn),
            Flushed#turn{batch = megaphone_signals:add(Encoded, megaphone_signals:empty()),
                         calls = Calls};
        false ->
            Turn#turn{batch = More, calls = Calls ++ Turn#turn.calls}
    end.

flush(Turn = #turn{outcome = disconnected}) ->
    Turn;
flush(Turn = #turn{batch = Batch, calls = Calls, callers = Callers, dropped = {Overload, TooLarge}}) ->
    Empty = Turn#turn{batch = megaphone_signals:empty(), calls = []},
    case megaphone_signals:count(Batch) of
        0 ->
            Turn;
        Count ->
            case megaphone_port:send_signals(megaphone_signals:pack(Batch)) of
                ok ->
                    Empty;
                {error, disconnected} ->
                    Empty#turn{outcome = disconnected};
                {error, Reason} ->
                    Refuse = fun(Ref, Acc) -> megaphone_callers:refuse(Ref, Reason, Acc) end,
                    Empty#turn{callers = lists:foldr(Refuse, Callers, Calls),
                               dropped = {Overload + Count - length(Calls), TooLarge}}
            end
    end.

now_ms() ->
    erlang:monotonic_time(millisecond).
