-module(megaphone_signals_tests).

-include_lib("eunit/include/eunit.hrl").

-define(LARGE, [{1, call, 7, {self(), hi, infinity}}, {300, cast, 0, binary:copy(<<"x">>, 70000)},
                {1 bsl 40, down, 1 bsl 35, {a, [b]}}, {1, exit, 0, {}}]).

batch(Signals) ->
    lists:foldl(fun({Process, Kind, Ref, Term}, Batch) ->
                        megaphone_signals:add(megaphone_signals:encode(Process, Kind, Ref, Term), Batch)
                end, megaphone_signals:empty(), Signals).

read(Batch) ->
    <<Size:32, Payload/binary>> = iolist_to_binary(megaphone_signals:frame(Batch)),
    ?assertEqual({Size, Size}, {byte_size(Payload), megaphone_signals:payload_size(Batch)}),
    {signals, Signals} = binary_to_term(Payload),
    [{Process, Kind, Ref, binary_to_term(Binary)} || {Process, Kind, Ref, Binary} <- Signals].

a_frame_comes_back_test() ->
    ?assertEqual(?LARGE, read(batch(?LARGE))),
    ?assertEqual(?LARGE, read(megaphone_signals:pack(batch(?LARGE)))),
    ?assertEqual(4, megaphone_signals:count(batch(?LARGE))).

joined_test() ->
    Joined = megaphone_signals:join(megaphone_signals:pack(batch(?LARGE)),
                                    megaphone_signals:join(batch([{9, info, 0, x}]), batch(?LARGE))),
    ?assertEqual(?LARGE ++ [{9, info, 0, x}] ++ ?LARGE, read(Joined)).

sizes_test() ->
    One = megaphone_signals:encode(5, info, 0, hello),
    Batch = megaphone_signals:add(One, megaphone_signals:empty()),
    ?assertEqual(megaphone_signals:size(One), megaphone_signals:payload_size(Batch)),
    Two = megaphone_signals:add(One, Batch),
    ?assertEqual(megaphone_signals:payload_size(Two),
                 megaphone_signals:payload_size(Batch) + megaphone_signals:data_size(Batch)).
