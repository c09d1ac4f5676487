%%% Signals of the node's processes to Python's: encoded once, in the proxy, and joined into frames
%%% without being looked at again. No process, no I/O.
-module(megaphone_signals).

-export([encode/4, size/1, empty/0, add/2, pack/1, join/2, count/1, frame/1]).
-export([payload_size/1, data_size/1]).
-export_type([kind/0, encoded/0, batch/0]).

%% {signals, [..]} without its elements: version, tuple, atom, list's head and tail.
-define(HEAD, 131, 104, 2, 119, 7, "signals", 108).
-define(OVERHEAD, 18).

-type kind() :: call | cast | event | all_event | sync_event | sync_all_event | info | system
              | exit | link_exit | gone | down.
-type encoded() :: {Bytes :: pos_integer(), iodata()}.
-opaque batch() :: {Count :: non_neg_integer(), Bytes :: non_neg_integer(), iodata()}.

%% @doc One element of the list: {Process, Kind, Ref, Binary}, where Binary is Term encoded.
-spec encode(pos_integer(), kind(), non_neg_integer(), term()) -> encoded().
encode(Process, Kind, Ref, Term) ->
    Binary = term_to_binary(Term),
    <<131, 104, 3, Head/binary>> = term_to_binary({Process, Kind, Ref}),
    {byte_size(Head) + byte_size(Binary) + 7,
     [<<104, 4, Head/binary, 109, (byte_size(Binary)):32>>, Binary]}.

%% @doc Bytes of the frame's payload if the signal travels alone.
-spec size(encoded()) -> pos_integer().
size({Bytes, _}) ->
    Bytes + ?OVERHEAD.

-spec empty() -> batch().
empty() ->
    {0, 0, []}.

-spec add(encoded(), batch()) -> batch().
add({Bytes, Data}, {Count, Before, Parts}) ->
    {Count + 1, Before + Bytes, [Parts, Data]}.

%% @doc The same as one binary, which another process is sent without a copy.
-spec pack(batch()) -> batch().
pack({Count, Bytes, Parts}) ->
    {Count, Bytes, iolist_to_binary(Parts)}.

-spec join(batch(), batch()) -> batch().
join({Count, Bytes, Parts}, {More, MoreBytes, MoreParts}) ->
    {Count + More, Bytes + MoreBytes, [Parts, MoreParts]}.

-spec count(batch()) -> non_neg_integer().
count({Count, _, _}) ->
    Count.

%% @doc Bytes of the payload that frame/1 makes.
-spec payload_size(batch()) -> pos_integer().
payload_size({_, Bytes, _}) ->
    Bytes + ?OVERHEAD.

%% @doc Bytes that the batch adds to another one's payload.
-spec data_size(batch()) -> non_neg_integer().
data_size({_, Bytes, _}) ->
    Bytes.

-spec frame(batch()) -> iolist().
frame(Batch = {Count, _, Parts}) ->
    [megaphone_frame:header(payload_size(Batch)), <<?HEAD, Count:32>>, Parts, 106].
