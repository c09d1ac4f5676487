-module(megaphone_delivery_tests).

-include_lib("eunit/include/eunit.hrl").
-include("xmpp.hrl").

way_test_() ->
    Hint = fun(Type) -> #hint{type = Type} end,
    Raw = fun(Name) -> #xmlel{name = Name, attrs = [{<<"xmlns">>, <<"urn:xmpp:hints">>}]} end,
    [?_assertEqual(Way, megaphone_delivery:way(Message))
     || {Way, Message} <-
            [{session, #message{type = headline}},
             {router, #message{type = chat}}, {router, #message{type = normal}},
             {router, #message{type = headline, sub_els = [Hint(store)]}},
             {router, #message{type = headline, sub_els = [Raw(<<"store">>)]}},
             {session, #message{type = headline, sub_els = [#xmlel{name = <<"store">>}]}},
             {session, #message{type = headline, sub_els = [Hint('no-store')]}},
             {session, #message{type = headline, sub_els = [Hint(store), Hint('no-store')]}},
             %% Carbons would multiply it.
             {router, #message{type = chat, sub_els = [Hint('no-store')]}}]].

unit_test() ->
    ?assertEqual({session, account}, {megaphone_delivery:unit(session), megaphone_delivery:unit(router)}).

delivery_test_() ->
    {foreach, fun() -> people_standin:start([<<"localhost">>]) end, fun(_) -> people_standin:stop() end,
     [fun straight_to_sessions/0, fun gone_and_dropped/0, fun subject/0, fun by_the_router/0,
      fun nothing_keeps_a_column/0]}.

batch(First, Names) ->
    Rows = [{Name, <<"localhost">>, <<"r">>, people_standin:open(Name, <<"localhost">>, <<"r">>)}
            || Name <- Names],
    {Batch, 0} = megaphone_batch:new(First, Rows),
    {Batch, [Pid || {_, _, _, Pid} <- Rows]}.

straight_to_sessions() ->
    {Batch, [Ann, Bob]} = batch(40, [<<"ann">>, <<"bob">>]),
    ?assertEqual({2, 0, 0},
                 megaphone_delivery:deliver(session, #message{id = <<"b7">>, type = headline}, Batch,
                                            [[<<"Hi ann">>, <<"Hi <b>">>]], #{})),
    [Message] = people_standin:received(Ann),
    ?assertEqual(#message{id = <<"b7-40">>, type = headline, from = jid:make(<<"localhost">>),
                          to = jid:make(<<"ann">>, <<"localhost">>, <<"r">>),
                          body = [#text{data = <<"Hi ann">>}]}, Message),
    [#message{id = <<"b7-41">>, body = [#text{data = <<"Hi <b>">>}]}] = people_standin:received(Bob).

gone_and_dropped() ->
    Dead = people_standin:open_dead(<<"dead">>, <<"localhost">>, <<"r">>),
    [Ann, Bob] = [people_standin:open(Name, <<"localhost">>, <<"r">>) || Name <- [<<"ann">>, <<"bob">>]],
    {Batch, 0} = megaphone_batch:new(0, [{<<"u">>, <<"localhost">>, <<"r">>, Pid} || Pid <- [Ann, Dead, Bob]]),
    ?assertEqual({1, 1, 1},
                 megaphone_delivery:deliver(session, #message{id = <<"b">>, type = headline}, Batch,
                                            [[<<>>, <<"x">>, <<"to bob">>]], #{0 => true})),
    ?assertEqual([], people_standin:received(Ann)),
    ?assertMatch([#message{id = <<"b-2">>, body = [#text{data = <<"to bob">>}]}], people_standin:received(Bob)).

subject() ->
    {Batch, [Ann]} = batch(0, [<<"ann">>]),
    From = jid:make(<<"news">>, <<"localhost">>),
    {1, 0, 0} = megaphone_delivery:deliver(session, #message{id = <<"b">>, type = headline, from = From},
                                           Batch, [[<<"body">>], [<<"subject">>]], #{}),
    ?assertMatch([#message{from = From, subject = [#text{data = <<"subject">>}],
                           body = [#text{data = <<"body">>}]}], people_standin:received(Ann)).

by_the_router() ->
    {Batch, 0} = megaphone_batch:new(3, [{<<"ann">>, <<"localhost">>}, {<<"bob">>, <<"localhost">>},
                                         {<<"cid">>, <<"localhost">>}]),
    ?assertEqual({2, 0, 1},
                 megaphone_delivery:deliver(router, #message{id = <<"b">>, type = chat}, Batch,
                                            [[<<"a">>, <<>>, <<"c">>]], #{1 => true})),
    ?assertEqual([{<<"b-3">>, jid:make(<<"ann">>, <<"localhost">>), <<"a">>},
                  {<<"b-5">>, jid:make(<<"cid">>, <<"localhost">>), <<"c">>}],
                 [{Id, To, Text} || #message{id = Id, to = To, body = [#text{data = Text}]}
                                        <- people_standin:routed()]).

nothing_keeps_a_column() ->
    {Batch, [Ann | _]} = batch(0, [<<"ann">> | [integer_to_binary(I) || I <- lists:seq(1, 500)]]),
    Texts = binary:split(iolist_to_binary(lists:join(0, lists:duplicate(501, <<"Hello">>))), <<0>>, [global]),
    {501, 0, 0} = megaphone_delivery:deliver(session, #message{id = <<"b">>, type = headline}, Batch,
                                             [Texts], #{}),
    [#message{to = To, body = [#text{data = Text}]}] = people_standin:received(Ann),
    %% Each column has more than 1500 bytes. OTP 27 gives bits here for a small binary.
    [?assert(binary:referenced_byte_size(Value) < 1000) || Value <- [Text, To#jid.luser, To#jid.lserver]].
