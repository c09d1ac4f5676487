-module(megaphone_protocol_tests).

-include_lib("eunit/include/eunit.hrl").

-define(OPTIONS, #{max_frame => 4194304, port_window => 8388608,
                   heartbeat_interval => 1000, heartbeat_timeout => 5000}).

decode(Term) -> megaphone_protocol:decode(term_to_binary(Term)).

hello(Changes) ->
    maps:merge(#{<<"protocol">> => [1], <<"capabilities">> => [<<"calls">>, <<"later">>],
                 <<"max_frame">> => 4096, <<"credit">> => 8192, <<"version">> => <<"9">>,
                 <<"name">> => <<"port_program">>, <<"later">> => 1}, Changes).

%% The table of docs/protocol.md is the list: every line of it, and none but its lines.
table_test() ->
    Docs = filename:join([os:getenv("MEGAPHONE_TESTS"), "..", "..", "docs", "protocol.md"]),
    {ok, Text} = file:read_file(Docs),
    Row = "^\\| `\\{([a-z_]+)([^`]*)\\}` \\| ([a-z, ]+) \\| ([a-z, ]+) \\| (yes|no) \\|",
    {match, Rows} = re:run(Text, Row, [global, multiline, {capture, all_but_first, list}]),
    Listed = [{list_to_atom(Tag), arity(Elements), words(From), words(To), Credit =:= "yes"}
              || [Tag, Elements, From, To, Credit] <- Rows],
    ?assertEqual(Listed, megaphone_protocol:messages()).

%% Elements of a tuple as written: commas outside of brackets, and one more.
arity(Elements) ->
    {Commas, 0} = lists:foldl(fun(C, {N, Depth}) when C =:= $[; C =:= ${ -> {N, Depth + 1};
                                 (C, {N, Depth}) when C =:= $]; C =:= $} -> {N, Depth - 1};
                                 ($,, {N, 0}) -> {N + 1, 0};
                                 (_, Acc) -> Acc
                              end, {0, 0}, Elements),
    Commas + 1.

words(Text) ->
    [list_to_atom(string:trim(Word)) || Word <- string:split(Text, ",", all)].

credited_as_listed_test() ->
    Messages = [{hello, #{}}, {heartbeat, 1, 0}, {credit, 1}, {log, info, <<>>, <<>>},
                {call, 1, <<"a">>, x, 1}, {cast, <<"a">>, x}, {replies, []},
                {signals, [{1, reply, 7, <<>>}, {2, exit, 0, <<131, 97, 1>>}]},
                {batch_done, <<"b">>, 0, <<>>}, {batch_failed, <<"b">>, 0, crash, <<>>}],
    [begin
         {Tag, Arity, _, To, Credit} = lists:keyfind(element(1, M), 1, megaphone_protocol:messages()),
         ?assertEqual({ok, M}, decode(M)),
         ?assertEqual({Tag, Arity, Credit}, {Tag, tuple_size(M), megaphone_protocol:credited(M)}),
         ?assert(lists:member(node, To))
     end || M <- Messages].

what_the_node_may_not_receive_is_no_message_test_() ->
    [?_assertEqual({error, unknown_message}, decode(Term))
     || Term <- [{batch, <<"b">>, 0, <<>>}, {batch_cancel, <<"b">>}, hello, {hello, []}, [], {},
                 {credit, 0}, {credit, -1}, {credit, 1 bsl 70}, {credit, 1.0},
                 {log, loud, <<>>, <<>>}, {log, info, "list", <<>>},
                 {call, 1, name, x, 5}, {call, 1, <<"a">>, x, 0}, {call, 1, binary:copy(<<"a">>, 256), x, 1},
                 {replies, [{1, ok, <<>>} | tail]}, {replies, [{1, maybe_ok, <<>>}]}, {replies, {}},
                 {signals, {}}, {signals, [{1, reply, 7, <<>>} | tail]}, {signals, [{0, reply, 7, <<>>}]},
                 {signals, [{1, call, 7, <<>>}]}, {signals, [{1, reply, -1, <<>>}]},
                 {signals, [{1, reply, 7, "list"}]}, {signals, [{1, reply, 7}]},
                 {batch_done, <<"b">>, -1, <<>>}, {batch_failed, <<"b">>, 0, normal, <<>>},
                 {node, 1}]].

no_term_test_() ->
    Unknown = <<"an_atom_that_no_module_of_this_node_has_ever_named">>,
    [?_assertEqual({error, Reason}, megaphone_protocol:decode(Bytes))
     || {Reason, Bytes} <-
            [{not_a_term, <<>>}, {not_a_term, <<131>>}, {not_a_term, <<"hello">>},
             {not_a_term, <<(term_to_binary({credit, 1}))/binary, 0>>},
             {not_a_term, <<131, 104, 2, 119, (byte_size(Unknown)), Unknown/binary, 97, 1>>},
             {compressed, term_to_binary({log, info, <<>>, binary:copy(<<"a">>, 9000)}, [compressed])}]].

no_atom_is_made_test() ->
    Before = erlang:system_info(atom_count),
    [begin
         Name = <<"made_up_", (integer_to_binary(N))/binary>>,
         {error, not_a_term} = megaphone_protocol:decode(<<131, 119, (byte_size(Name)), Name/binary>>)
     end || N <- lists:seq(1, 1000)],
    ?assert(erlang:system_info(atom_count) - Before < 100).

hello_of_the_node_test() ->
    {hello, Map} = megaphone_protocol:hello(?OPTIONS),
    ?assertEqual(lists:sort([<<"protocol">>, <<"capabilities">>, <<"max_frame">>, <<"credit">>,
                             <<"heartbeat_interval">>, <<"heartbeat_timeout">>, <<"version">>, <<"name">>]),
                 lists:sort(maps:keys(Map))),
    ?assert(iolist_size(element(1, megaphone_frame:encode({hello, Map}))) < 65536).

greet_test() ->
    {ok, Peer} = megaphone_protocol:greet(hello(#{<<"protocol">> => [7, 1]})),
    ?assertEqual(#{max_frame => 4096, credit => 8192, version => <<"9">>,
                   name => <<"port_program">>, os_pid => undefined, capabilities => [<<"calls">>]}, Peer),
    {ok, Told} = megaphone_protocol:greet(hello(#{<<"os_pid">> => 7})),
    ?assertMatch(#{os_pid := 7}, Told).

greet_refuses_test_() ->
    [?_assertMatch({error, _}, megaphone_protocol:greet(hello(Changes)))
     || Changes <- [#{<<"protocol">> => [2]}, #{<<"protocol">> => []}, #{<<"protocol">> => [2 | 1]},
                    #{<<"protocol">> => 1}, #{<<"max_frame">> => 0}, #{<<"max_frame">> => x},
                    #{<<"credit">> => 8191}, #{<<"credit">> => 1 bsl 80}, #{<<"version">> => 1},
                    #{<<"name">> => undefined}, #{<<"capabilities">> => [a | b]}]].

greet_names_both_versions_test() ->
    {error, Text} = megaphone_protocol:greet(hello(#{<<"protocol">> => [2, 3]})),
    ?assertNotEqual(nomatch, string:find(Text, "[2,3]")),
    ?assertNotEqual(nomatch, string:find(Text, "[1]")).

answers_test_() ->
    Decode = fun(Outcome, Term) -> megaphone_protocol:decode_answer(Outcome, term_to_binary(Term)) end,
    [?_assertEqual({ok, {a, [1]}}, Decode(ok, {a, [1]})),
     ?_assertEqual({error, {noproc, <<"no">>}}, Decode(error, {noproc, <<"no">>})),
     ?_assertMatch({error, {badarg, _}}, Decode(error, {exit, <<"no">>})),
     ?_assertMatch({error, {badarg, _}}, Decode(error, oops)),
     ?_assertMatch({error, {badarg, _}}, megaphone_protocol:decode_answer(ok, <<131, 119, 3, "\xff">>)),
     ?_assertMatch({error, {badarg, _}}, megaphone_protocol:decode_answer(ok, <<131, 119, 9, "zzqzzqzzq">>))].

call_frame_test_() ->
    [fun() ->
             Prefix = megaphone_protocol:call_prefix(Id, <<"fanout">>, Request),
             <<Size:32, Payload/binary>> = iolist_to_binary(megaphone_protocol:call_frame(Prefix, Timeout)),
             ?assertEqual({Size, Size}, {byte_size(Payload), megaphone_protocol:call_size(Prefix)}),
             ?assertEqual({call, Id, <<"fanout">>, Request, min(Timeout, 16#7fffffff)}, binary_to_term(Payload))
     end || Id <- [1, 300, 1 bsl 40], Timeout <- [1, 5000, 1 bsl 40],
            Request <- [status, 0, {prepare, [binary:copy(<<"x">>, 100000)]}]].
