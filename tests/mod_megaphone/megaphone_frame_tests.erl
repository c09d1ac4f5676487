-module(megaphone_frame_tests).

-include_lib("eunit/include/eunit.hrl").

frames(Payloads) ->
    iolist_to_binary([[<<(byte_size(P)):32>>, P] || P <- Payloads]).

%% All whole payloads, and what is left.
read(Frames) -> read(Frames, []).

read(Frames, Payloads) ->
    case megaphone_frame:next(Frames) of
        {payload, Payload, Rest} -> read(Rest, [Payload | Payloads]);
        {more, Rest} -> {lists:reverse(Payloads), Rest};
        {error, Reason} -> {lists:reverse(Payloads), Reason}
    end.

every_cut_test() ->
    Payloads = [<<1>>, <<"three">>, binary:copy(<<7>>, 300), <<0, 0, 0, 0>>],
    Stream = frames(Payloads),
    [begin
         <<Head:Cut/binary, Tail/binary>> = Stream,
         {First, Frames} = read(megaphone_frame:push(Head, megaphone_frame:new(300))),
         {Second, Rest} = read(megaphone_frame:push(Tail, Frames)),
         ?assertEqual(Payloads, First ++ Second),
         ?assertEqual(0, megaphone_frame:buffered(Rest))
     end || Cut <- lists:seq(0, byte_size(Stream))].

byte_by_byte_test() ->
    Payloads = [<<"a">>, binary:copy(<<"b">>, 1000), <<"c">>],
    {Got, _} = lists:foldl(
                 fun(Byte, {Acc, Frames}) ->
                         {New, Rest} = read(megaphone_frame:push(<<Byte>>, Frames)),
                         {Acc ++ New, Rest}
                 end, {[], megaphone_frame:new(1000)}, binary_to_list(frames(Payloads))),
    ?assertEqual(Payloads, Got).

buffered_counts_every_byte_test() ->
    Stream = frames([binary:copy(<<1>>, 50)]),
    [begin
         {[], Frames} = read(megaphone_frame:push(binary:part(Stream, 0, N), megaphone_frame:new(50))),
         ?assertEqual(N, megaphone_frame:buffered(Frames))
     end || N <- lists:seq(0, byte_size(Stream) - 1)].

length_zero_test() ->
    ?assertMatch({[], {bad_length, 0, 100}}, read(megaphone_frame:push(<<0:32>>, megaphone_frame:new(100)))).

length_beyond_the_limit_is_known_from_four_bytes_test() ->
    ?assertMatch({[<<"ok">>], {bad_length, 16#ffffffff, 100}},
                 read(megaphone_frame:push(<<(frames([<<"ok">>]))/binary, 16#ffffffff:32>>,
                                           megaphone_frame:new(100)))),
    ?assertMatch({[], {bad_length, 101, 100}},
                 read(megaphone_frame:push(<<101:32>>, megaphone_frame:new(100)))).

limit_holds_from_the_next_length_test() ->
    {payload, <<"hello">>, Frames} =
        megaphone_frame:next(megaphone_frame:push(frames([<<"hello">>, binary:copy(<<1>>, 50)]),
                                                  megaphone_frame:new(10))),
    ?assertMatch({[<<_:50/binary>>], _}, read(megaphone_frame:limit(50, Frames))),
    ?assertMatch({[], {bad_length, 50, 10}}, read(Frames)).

encode_test() ->
    Term = {batch, <<"id">>, 3, binary:copy(<<"x">>, 100000)},
    {Frame, Size} = megaphone_frame:encode(Term),
    <<Length:32, Payload/binary>> = iolist_to_binary(Frame),
    ?assertEqual({Size, Size, Term}, {Length, byte_size(Payload), binary_to_term(Payload)}).
