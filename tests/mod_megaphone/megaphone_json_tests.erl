-module(megaphone_json_tests).

-include_lib("eunit/include/eunit.hrl").

encode_test_() ->
    [?_assertEqual(Expected, megaphone_json:encode(Value))
     || {Expected, Value} <-
            [{<<"{}">>, #{}}, {<<"[]">>, []}, {<<"null">>, undefined}, {<<"null">>, null},
             {<<"[true,false]">>, [true, false]}, {<<"-7">>, -7}, {<<"0.1">>, 0.1},
             {<<"{\"a\":[1,{\"b\":null}]}">>, #{<<"a">> => [1, #{<<"b">> => undefined}]}},
             {<<"\"running\"">>, running},
             {<<"\"\\\"\\\\\\n\\u0009\\u0000\\u007f\"">>, <<"\"\\\n\t", 0, 127>>},
             {<<"\"Zo\\u00eb\"">>, <<"Zoë"/utf8>>},
             {<<"\"\\ud83d\\udc4b\"">>, <<"👋"/utf8>>},
             {<<"\"a\\ufffdb\"">>, <<"a", 255, "b">>}]].

ascii_round_trip_test() ->
    Text = unicode:characters_to_binary([C || C <- lists:seq(1, 16#FFFF), C < 16#D800 orelse C > 16#DFFF]),
    Encoded = megaphone_json:encode(#{Text => [Text]}),
    ?assert(lists:all(fun(C) -> C < 128 end, binary_to_list(Encoded))),
    ?assertEqual({ok, #{Text => [Text]}}, megaphone_json:decode(Encoded)).

decode_test() ->
    ?assertEqual({ok, #{<<"a">> => [1, 2.5, null, true, <<"ë👋"/utf8>>]}},
                 megaphone_json:decode(<<"{\"a\": [1, 2.5, null, true, \"\\u00eb\\ud83d\\udc4b\"]}">>)).

invalid_test_() ->
    [?_assertEqual({error, invalid}, megaphone_json:decode(Text))
     || Text <- [<<>>, <<"{">>, <<"{\"a\"}">>, <<"[1] x">>, <<"\"", 255, "\"">>, <<"\"\\ud800\"">>,
                 <<"nope">>, <<"\"", 10, "\"">>, <<"\"\\">>, <<"]]]">>]].

bounded_test_() ->
    Deep = fun(N) -> iolist_to_binary([lists:duplicate(N, $[), lists:duplicate(N, $])]) end,
    [?_assertMatch({ok, _}, megaphone_json:decode(Deep(32))),
     ?_assertEqual({error, too_deep}, megaphone_json:decode(Deep(33))),
     ?_assertEqual({error, too_deep}, megaphone_json:decode(binary:copy(<<"{\"a\":">>, 100))),
     %% Brackets and digits of a string are text.
     ?_assertMatch({ok, _}, megaphone_json:decode(<<"\"", (binary:copy(<<"[\\\"">>, 100))/binary, "\"">>)),
     ?_assertMatch({ok, _}, megaphone_json:decode(<<"\"", (binary:copy(<<"9">>, 1000))/binary, "\"">>)),
     ?_assertEqual({error, too_large}, megaphone_json:decode(binary:copy(<<"9">>, 100))),
     ?_assertEqual({error, too_large}, megaphone_json:decode(binary:copy(<<" ">>, 2000000)))].

makes_no_atom_test() ->
    Key = <<"never_an_atom_", (integer_to_binary(erlang:unique_integer([positive])))/binary>>,
    ?assertMatch({ok, #{Key := 1}}, megaphone_json:decode(<<"{\"", Key/binary, "\": 1}">>)),
    ?assertError(badarg, binary_to_existing_atom(Key, utf8)).
