-module(megaphone_inflow_tests).

-include_lib("eunit/include/eunit.hrl").

-define(FREE, 262144).

frame(Term) -> iolist_to_binary(element(1, megaphone_frame:encode(Term))).

all(Inflow) ->
    case megaphone_inflow:next(Inflow) of
        {message, Message, Rest} -> {Messages, Last} = all(Rest), {[Message | Messages], Last};
        {bad, Reason, Rest} -> {Messages, Last} = all(Rest), {[{bad, Reason} | Messages], Last};
        {more, Rest} -> {[], Rest};
        Violation -> {[], Violation}
    end.

data(Bytes, Inflow) ->
    {ok, Taken} = megaphone_inflow:data(Bytes, Inflow),
    all(Taken).

log(Size) ->
    Overhead = byte_size(frame({log, info, <<>>, <<>>})),
    frame({log, info, <<>>, binary:copy(<<"a">>, Size - Overhead)}).

messages_in_order_test() ->
    Sent = [{heartbeat, 0, 0}, {log, info, <<"s">>, <<"t">>}, {credit, 5}],
    {Got, _} = data(<< <<(frame(M))/binary>> || M <- Sent >>, megaphone_inflow:new(1000)),
    ?assertEqual(Sent, Got).

a_bad_payload_is_not_the_end_test() ->
    {Got, _} = data(<<(frame(no_such_message))/binary, (frame({credit, 1}))/binary>>,
                    megaphone_inflow:new(1000)),
    ?assertEqual([{bad, unknown_message}, {credit, 1}], Got).

credit_to_the_last_byte_test() ->
    {[_], Inflow} = data(log(1000), megaphone_inflow:new(1000)),
    {Messages, Violation} = data(log(100), Inflow),
    ?assertEqual({[], {violation, credit}}, {Messages, Violation}).

grant_in_quarters_test() ->
    {[_], First} = data(log(249), megaphone_inflow:new(1000)),
    ?assertMatch({0, _}, megaphone_inflow:grant(First)),
    {[_], Second} = data(log(51), First),
    {Granted, Third} = megaphone_inflow:grant(Second),
    ?assertEqual(300, Granted),
    ?assertMatch({0, _}, megaphone_inflow:grant(Third)),
    %% All of the window is there again.
    {[_], Full} = data(log(1000), Third),
    ?assertEqual({[], {violation, credit}}, data(log(40), Full)).

bytes_are_counted_before_they_are_parsed_test() ->
    Inflow = megaphone_inflow:limit(4194304, megaphone_inflow:new(8388608)),
    %% One frame that announces 4 MiB, and then bytes without end.
    {[], Begun} = data(<<4194304:32>>, Inflow),
    ?assertEqual({violation, credit}, megaphone_inflow:data(binary:copy(<<0>>, 8388608 + ?FREE), Begun)).

never_keeps_more_than_the_window_test() ->
    Inflow = megaphone_inflow:limit(1048576, megaphone_inflow:new(2097152)),
    Chunk = binary:copy(<<(frame({batch_done, <<"b">>, 1, binary:copy(<<1>>, 60000)}))/binary>>, 1),
    Flood = fun Flood(Taken, Now) ->
                    case megaphone_inflow:data(Chunk, Now) of
                        {ok, Next} ->
                            case all(Next) of
                                {_, {violation, credit}} -> Taken;
                                {_, Rest} -> Flood(Taken + byte_size(Chunk), Rest)
                            end;
                        {violation, credit} -> Taken
                    end
            end,
    Taken = Flood(0, Inflow),
    ?assert(Taken =< 2097152),
    ?assert(Taken > 2000000).

free_frames_are_free_at_a_rate_test() ->
    Beat = frame({heartbeat, 1, 0}),
    Many = binary:copy(Beat, ?FREE div byte_size(Beat)),
    {_, Inflow} = data(Many, megaphone_inflow:new(1048576)),
    ?assertEqual({[], {violation, flood}}, data(binary:copy(Beat, 20), Inflow)),
    {Beats, _} = data(binary:copy(Beat, 20), megaphone_inflow:tick(Inflow)),
    ?assertEqual(20, length(Beats)).

before_the_hello_test() ->
    ?assertEqual({[], {violation, {bad_length, 65537, 65536}}},
                 data(<<65537:32>>, megaphone_inflow:new(8388608))).

the_first_four_bytes_test() ->
    ?assertEqual({[], {violation, {bad_length, 16#ffffffff, 65536}}},
                 data(<<16#ffffffff:32, 0:64>>, megaphone_inflow:new(8388608))).
