-module(megaphone_stanzas_tests).

-include_lib("eunit/include/eunit.hrl").
-include("xmpp.hrl").

stanzas_test_() ->
    {foreach, fun megaphone_counts:start/0, fun(_) -> megaphone_counts:stop() end,
     [fun() ->
              [?assertEqual({Stanza, #{}}, megaphone_stanzas:Hook({Stanza, #{}}))
               || Hook <- [sent, received], Stanza <- [#message{}, #presence{}, #iq{type = get}]],
              ?assertEqual([1, 1, 1, 1, 1, 1], counted())
      end,
      %% What is no stanza, or no accumulator that is known, passes as it is.
      fun() ->
              [?assertEqual(Acc, megaphone_stanzas:Hook(Acc))
               || Hook <- [sent, received, offline],
                  Acc <- [{drop, #{}}, {#xmlel{name = <<"r">>}, #{}}, stop, {a, b, c}, []]],
              ?assertEqual([0, 0, 0, 0, 0, 0], counted()),
              ?assertEqual(0, megaphone_counts:count(offline_stored))
      end,
      fun() ->
              Message = #message{},
              [?assertEqual({Action, Message}, megaphone_stanzas:offline({Action, Message}))
               || Action <- [bounce, pass, archived, offlined]],
              ?assertEqual(1, megaphone_counts:count(offline_stored))
      end]}.

counted() ->
    [megaphone_counts:count(Counter) || Counter <- [message_in, presence_in, iq_in, message_out,
                                                    presence_out, iq_out]].
