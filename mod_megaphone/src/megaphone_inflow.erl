%%% What the program sends: bytes counted before they are looked at, then framed and decoded.
%%%
%%% Invariant: what is kept of a program that ignores its credit is never more than the window
%%% and ?FREE bytes. No process, no I/O.
-module(megaphone_inflow).

-include("megaphone.hrl").

-export([new/1, limit/2, allowed/1, data/2, next/1, grant/1, tick/1]).
-export_type([inflow/0, violation/0]).

%% Bytes of frames that cost no credit (hello, heartbeats, credit) between two ticks, and of a
%% frame that has not arrived whole. An honest program needs a few hundred.
-define(FREE, 262144).

-record(inflow, {frames :: megaphone_frame:frames(),
                 window :: pos_integer(),
                 left :: integer(),
                 owed = 0 :: non_neg_integer(),
                 free = ?FREE :: integer()}).

-opaque inflow() :: #inflow{}.
-type violation() :: megaphone_frame:bad_length() | credit | flood.

%% @doc Window is the credit, in bytes, that the node's hello grants.
-spec new(pos_integer()) -> inflow().
new(Window) ->
    #inflow{frames = megaphone_frame:new(?HELLO_FRAME), window = Window, left = Window}.

%% @doc The longest payload from now on: what the node's hello said, once the program's is here.
-spec limit(pos_integer(), inflow()) -> inflow().
limit(MaxFrame, Inflow = #inflow{frames = Frames}) ->
    Inflow#inflow{frames = megaphone_frame:limit(MaxFrame, Frames)}.

%% @doc Bytes that may arrive now.
-spec allowed(inflow()) -> integer().
allowed(#inflow{frames = Frames, left = Left, free = Free}) ->
    Left + Free - megaphone_frame:buffered(Frames).

%% @doc Takes bytes in, or says at once that they are more than the credit allows.
-spec data(binary(), inflow()) -> {ok, inflow()} | {violation, credit}.
data(Data, Inflow = #inflow{frames = Frames}) ->
    case byte_size(Data) > allowed(Inflow) of
        true -> {violation, credit};
        false -> {ok, Inflow#inflow{frames = megaphone_frame:push(Data, Frames)}}
    end.

-spec next(inflow()) -> {message, megaphone_protocol:message(), inflow()}
                      | {bad, megaphone_protocol:reason(), inflow()}
                      | {more, inflow()}
                      | {violation, violation()}.
next(Inflow = #inflow{frames = Frames}) ->
    case megaphone_frame:next(Frames) of
        {more, More} -> {more, Inflow#inflow{frames = More}};
        {error, BadLength} -> {violation, BadLength};
        {payload, Payload, Rest} -> payload(Payload, Inflow#inflow{frames = Rest})
    end.

%% @doc Credit to give back, in steps of a quarter of the window: 0 while it is less.
-spec grant(inflow()) -> {non_neg_integer(), inflow()}.
grant(Inflow = #inflow{owed = Owed, window = Window, left = Left}) when Owed >= Window div 4 ->
    {Owed, Inflow#inflow{owed = 0, left = Left + Owed}};
grant(Inflow) ->
    {0, Inflow}.

%% @doc Once each heartbeat interval: what is free of credit is free at a rate.
-spec tick(inflow()) -> inflow().
tick(Inflow) ->
    Inflow#inflow{free = ?FREE}.

payload(Payload, Inflow) ->
    Cost = byte_size(Payload) + 4,
    case megaphone_protocol:decode(Payload) of
        {ok, Message} ->
            case megaphone_protocol:credited(Message) of
                true -> charged(charge(Cost, Inflow), {message, Message});
                false -> charged(charge_free(Cost, Inflow), {message, Message})
            end;
        {error, Reason} ->
            charged(charge(Cost, Inflow), {bad, Reason})
    end.

charged({ok, Inflow}, {Kind, What}) -> {Kind, What, Inflow};
charged({violation, _} = Violation, _) -> Violation.

charge(Cost, Inflow = #inflow{left = Left, owed = Owed}) when Cost =< Left ->
    {ok, Inflow#inflow{left = Left - Cost, owed = Owed + Cost}};
charge(_, _) ->
    {violation, credit}.

charge_free(Cost, Inflow = #inflow{free = Free}) when Cost =< Free ->
    {ok, Inflow#inflow{free = Free - Cost}};
charge_free(_, _) ->
    {violation, flood}.
