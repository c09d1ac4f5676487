%%% Bytes <-> payloads: four bytes of length, unsigned, big-endian, and that many bytes.
%%%
%%% The node opens the port as a stream and frames here, with a limit: with {packet, 4} the
%%% VM allocates whatever length it is told before one byte of it has arrived.
-module(megaphone_frame).

-export([new/1, limit/2, push/2, next/1, buffered/1, encode/1, header/1]).
-export_type([frames/0, bad_length/0]).

%% Either `rest` holds bytes that may contain whole frames, or `parts` (newest first) hold
%% `have` of the `size` bytes of one payload. Parts are joined once, when all are there.
-record(frames, {max :: pos_integer(),
                 rest = <<>> :: binary(),
                 size = none :: none | pos_integer(),
                 have = 0 :: non_neg_integer(),
                 parts = [] :: [binary()]}).

-opaque frames() :: #frames{}.
-type bad_length() :: {bad_length, Length :: non_neg_integer(), Max :: pos_integer()}.

%% @doc An empty buffer that accepts payloads of at most Max bytes.
-spec new(pos_integer()) -> frames().
new(Max) ->
    #frames{max = Max}.

%% @doc Changes the limit; it holds from the next length on.
-spec limit(pos_integer(), frames()) -> frames().
limit(Max, Frames) ->
    Frames#frames{max = Max}.

-spec push(binary(), frames()) -> frames().
push(Data, Frames = #frames{size = none, rest = <<>>}) ->
    Frames#frames{rest = Data};
push(Data, Frames = #frames{size = none, rest = Rest}) ->
    Frames#frames{rest = <<Rest/binary, Data/binary>>};
push(Data, Frames = #frames{have = Have, parts = Parts}) ->
    Frames#frames{have = Have + byte_size(Data), parts = [Data | Parts]}.

%% @doc The next whole payload, if there is one. After an error the stream cannot be trusted.
-spec next(frames()) -> {payload, binary(), frames()} | {more, frames()} | {error, bad_length()}.
next(#frames{size = none, rest = <<Size:32, _/binary>>, max = Max}) when Size =:= 0; Size > Max ->
    {error, {bad_length, Size, Max}};
next(Frames = #frames{size = none, rest = <<Size:32, Rest/binary>>}) ->
    case Rest of
        <<Payload:Size/binary, Tail/binary>> ->
            {payload, Payload, Frames#frames{rest = Tail}};
        _ ->
            {more, Frames#frames{rest = <<>>, size = Size, have = byte_size(Rest), parts = [Rest]}}
    end;
next(Frames = #frames{size = Size, have = Have, parts = Parts}) when is_integer(Size), Have >= Size ->
    <<Payload:Size/binary, Tail/binary>> = iolist_to_binary(lists:reverse(Parts)),
    {payload, Payload, Frames#frames{rest = Tail, size = none, have = 0, parts = []}};
next(Frames) ->
    {more, Frames}.

%% @doc Bytes that have arrived and belong to no whole payload yet, the length's own included.
-spec buffered(frames()) -> non_neg_integer().
buffered(#frames{size = none, rest = Rest}) ->
    byte_size(Rest);
buffered(#frames{have = Have}) ->
    Have + 4.

%% @doc One frame and the size of its payload. Large binaries are referred to, not copied.
-spec encode(term()) -> {iolist(), PayloadSize :: pos_integer()}.
encode(Term) ->
    Payload = erlang:term_to_iovec(Term),
    Size = iolist_size(Payload),
    {[header(Size) | Payload], Size}.

-spec header(pos_integer()) -> <<_:32>>.
header(Size) ->
    <<Size:32>>.
