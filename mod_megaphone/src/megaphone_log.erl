%%% Lines that the port program sends for the node's log, and what the node says about it.
-module(megaphone_log).

-export([new/0, line/4, tick/1, emit/3, sanitise/1, guarded/1]).
-export_type([limiter/0]).

-include("logger.hrl").

%% Bytes of one line.
-define(MAX_LINE, 4096).
%% Lines a second.
-define(MAX_RATE, 200).

%% The second that is running (monotonic), lines admitted in it, lines dropped in it.
-record(limiter, {second = none :: none | integer(),
                  lines = 0 :: non_neg_integer(),
                  dropped = 0 :: non_neg_integer()}).

-opaque limiter() :: #limiter{}.
-type level() :: debug | info | warning | error | critical.

-spec new() -> limiter().
new() ->
    #limiter{}.

%% @doc Logs a line of the program's unless there were too many in this second; then the next
%% line says how many were dropped.
-spec line(level(), binary(), binary(), limiter()) -> limiter().
line(Level, Source, Text, Limiter) ->
    case admit(erlang:monotonic_time(second), Limiter) of
        {true, Dropped, Next} ->
            tell(Dropped),
            emit(Level, Source, Text),
            Next;
        {false, Next} ->
            Next
    end.

%% @doc Says how many lines were dropped in a second that is over: the program may say nothing more.
-spec tick(limiter()) -> limiter().
tick(Limiter = #limiter{second = Second, dropped = Dropped}) when Dropped > 0 ->
    case erlang:monotonic_time(second) of
        Second ->
            Limiter;
        _ ->
            tell(Dropped),
            new()
    end;
tick(Limiter) ->
    Limiter.

tell(0) ->
    ok;
tell(Dropped) ->
    ?WARNING_MSG("megaphone: ~b lines of the port program were dropped: more than ~b in a second",
                 [Dropped, ?MAX_RATE]).

%% @doc Logs one line, sanitised.
-spec emit(level(), binary(), binary()) -> ok.
emit(Level, Source, Text) ->
    Args = [sanitise(Source), sanitise(Text)],
    case Level of
        debug -> ?DEBUG("megaphone[~ts] ~ts", Args);
        info -> ?INFO_MSG("megaphone[~ts] ~ts", Args);
        warning -> ?WARNING_MSG("megaphone[~ts] ~ts", Args);
        error -> ?ERROR_MSG("megaphone[~ts] ~ts", Args);
        critical -> ?CRITICAL_MSG("megaphone[~ts] ~ts", Args)
    end.

%% @doc Text that cannot break out of its line of a log: cut, control characters made visible,
%% bytes that are no UTF-8 shown as such.
-spec sanitise(binary()) -> binary().
sanitise(Text) when byte_size(Text) > ?MAX_LINE ->
    %% The cut may split a character: what is left of it is dropped.
    Head = binary:part(Text, 0, ?MAX_LINE),
    Cut = case unicode:characters_to_binary(Head) of
              {incomplete, Whole, _} -> Whole;
              _ -> Head
          end,
    <<(visible(Cut, <<>>))/binary, "...">>;
sanitise(Text) ->
    visible(trim(Text), <<>>).

%% @doc Runs what has message bodies at hand. Its exceptions come as a crash report may show them:
%% without arguments or values, which would reach the log whatever format_status/1 hides.
-spec guarded(fun(() -> Result)) -> Result.
guarded(Handle) ->
    try Handle()
    catch
        Class:Reason:Stack ->
            erlang:raise(Class, redact_reason(Reason), [redact_call(Call) || Call <- Stack])
    end.

redact_reason(Reason) when is_atom(Reason) -> Reason;
redact_reason({Reason, _}) when is_atom(Reason) -> {Reason, redacted};
redact_reason(_) -> redacted.

redact_call({Module, Function, Args, Location}) when is_list(Args) ->
    {Module, Function, length(Args), Location};
redact_call(Call) ->
    Call.

admit(Second, Limiter = #limiter{second = Second, lines = Lines}) when Lines < ?MAX_RATE ->
    {true, 0, Limiter#limiter{lines = Lines + 1}};
admit(Second, Limiter = #limiter{second = Second, dropped = Dropped}) ->
    {false, Limiter#limiter{dropped = Dropped + 1}};
admit(Second, #limiter{dropped = Dropped}) ->
    {true, Dropped, #limiter{second = Second, lines = 1}}.

trim(Text) ->
    Size = byte_size(Text) - 1,
    case Text of
        <<Head:Size/binary, C>> when C =:= $\n; C =:= $\r -> trim(Head);
        _ -> Text
    end.

visible(<<C/utf8, Rest/binary>>, Acc) when C =:= $\t; C >= 16#20, C < 16#7f ->
    visible(Rest, <<Acc/binary, C>>);
visible(<<C/utf8, Rest/binary>>, Acc) ->
    case hidden(C) of
        true -> visible(Rest, <<Acc/binary, (escape(C))/binary>>);
        false -> visible(Rest, <<Acc/binary, C/utf8>>)
    end;
visible(<<Byte, Rest/binary>>, Acc) ->
    visible(Rest, <<Acc/binary, (escape(Byte))/binary>>);
visible(<<>>, Acc) ->
    Acc.

%% C0 and C1 controls, line and paragraph separators, directional formatting (UAX 9).
hidden(C) when C < 16#20; C >= 16#7f, C =< 16#9f -> true;
hidden(C) when C =:= 16#2028; C =:= 16#2029 -> true;
hidden(C) when C >= 16#200e, C =< 16#200f; C >= 16#202a, C =< 16#202e -> true;
hidden(C) when C >= 16#2066, C =< 16#2069 -> true;
hidden(_) -> false.

escape($\n) -> <<"\\n">>;
escape($\r) -> <<"\\r">>;
escape(C) when C =< 16#ff -> iolist_to_binary(io_lib:format("\\x~2.16.0b", [C]));
escape(C) -> iolist_to_binary(io_lib:format("\\u~4.16.0b", [C])).
