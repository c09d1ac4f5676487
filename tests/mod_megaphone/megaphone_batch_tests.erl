-module(megaphone_batch_tests).

-include_lib("eunit/include/eunit.hrl").

sessions(N) ->
    [{<<"user", (integer_to_binary(I))/binary>>, <<"localhost">>, <<"r">>, self()} || I <- lists:seq(1, N)].

accounts(N) ->
    [{User, Server} || {User, Server, _, _} <- sessions(N)].

what_goes_in_comes_out_test_() ->
    [fun() ->
             {Batch, 0} = megaphone_batch:new(7, Rows),
             ?assertEqual(Rows, megaphone_batch:Read(Batch)),
             ?assertEqual(N, megaphone_batch:count(Batch)),
             ?assertEqual(7, megaphone_batch:first(Batch))
     end || N <- [1, 2, 1000], {Read, Rows} <- [{sessions, sessions(N)}, {accounts, accounts(N)}]].

request_holds_what_the_templates_use_test() ->
    {Batch, 0} = megaphone_batch:new(0, sessions(2)),
    ?assertEqual({[<<"T">>], 2, #{<<"user">> => <<"user1", 0, "user2">>}},
                 binary_to_term(megaphone_batch:request([<<"T">>], [<<"user">>], Batch))),
    ?assertEqual({[<<"T">>], 2, #{}}, binary_to_term(megaphone_batch:request([<<"T">>], [], Batch))).

a_value_with_a_separator_is_left_out_test() ->
    [One, {User, Server, _, Pid}, Three] = sessions(3),
    {Batch, 1} = megaphone_batch:new(0, [One, {User, Server, <<"r", 0, "x">>, Pid}, Three]),
    ?assertEqual([One, Three], megaphone_batch:sessions(Batch)),
    ?assertEqual({empty, 1}, megaphone_batch:new(0, [{<<0>>, <<"localhost">>}])).

halves_test_() ->
    [fun() ->
             {Batch, 0} = megaphone_batch:new(10, Rows),
             {One, Other} = megaphone_batch:halves(Batch),
             ?assertEqual(Rows, megaphone_batch:Read(One) ++ megaphone_batch:Read(Other)),
             ?assertEqual(10, megaphone_batch:first(One)),
             ?assertEqual(10 + megaphone_batch:count(One), megaphone_batch:first(Other))
     end || {Read, Rows} <- [{sessions, sessions(7)}, {accounts, accounts(2)}]].

one_has_no_halves_test() ->
    {Batch, 0} = megaphone_batch:new(0, sessions(1)),
    ?assertEqual(single, megaphone_batch:halves(Batch)).

texts_test() ->
    {Batch, 0} = megaphone_batch:new(0, sessions(3)),
    Body = term_to_binary({[<<"a", 0, 0, "c">>, <<"x", 0, "y", 0, "z">>], [{1, invalid}]}),
    ?assertEqual({ok, [[<<"a">>, <<>>, <<"c">>], [<<"x">>, <<"y">>, <<"z">>]], #{1 => true}},
                 megaphone_batch:texts(Body, 2, Batch)).

bad_answers_test_() ->
    {Batch, 0} = megaphone_batch:new(0, sessions(2)),
    Good = <<"a", 0, "b">>,
    [?_assertMatch({error, <<_/binary>>}, megaphone_batch:texts(Body, 1, Batch))
     || Body <- [<<>>, <<131>>, <<"x">>, term_to_binary(ok), term_to_binary({[Good], [], []}),
                 term_to_binary({[], []}), term_to_binary({[Good, Good], []}),
                 term_to_binary({[Good | Good], []}), term_to_binary({Good, []}),
                 term_to_binary({["a"], []}),
                 term_to_binary({[<<"a">>], []}), term_to_binary({[<<"a", 0, "b", 0>>], []}),
                 term_to_binary({[Good], [{2, invalid}]}), term_to_binary({[Good], [{-1, invalid}]}),
                 term_to_binary({[Good], [{0, <<"x">>}]}), term_to_binary({[Good], [{0, invalid} | x]}),
                 term_to_binary({[Good], undefined}),
                 <<(term_to_binary({[Good], []}))/binary, 0>>]].

a_compressed_answer_is_refused_test() ->
    Long = binary:copy(<<"a">>, 5000),
    {Batch, 0} = megaphone_batch:new(0, sessions(1)),
    <<131, 80, _/binary>> = Body = term_to_binary({[Long], []}, [compressed]),
    ?assertMatch({error, _}, megaphone_batch:texts(Body, 1, Batch)).
