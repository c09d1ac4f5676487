-module(megaphone_request_tests).

-include_lib("eunit/include/eunit.hrl").
-include("xmpp.hrl").

request_test_() ->
    {setup, fun() -> people_standin:start([<<"localhost">>, <<"a.test">>]) end,
     fun(_) -> people_standin:stop() end,
     [fun least/0, fun everything/0, fun host_is_prepared/0 | refusals()] ++ [fun hosts_without_the_module/0]}.

least() ->
    ?assertEqual({ok, #{templates => [<<"Hi">>], scope => all, type => headline, from => undefined}},
                 megaphone_request:parse(#{<<"template">> => <<"Hi">>, <<"to">> => <<"online">>})).

everything() ->
    {ok, Request} = megaphone_request:parse(
                      #{<<"template">> => <<"Zoë 👋\t\r\n"/utf8>>, <<"subject">> => <<"S">>,
                        <<"to">> => <<"online@a.test">>, <<"type">> => <<"chat">>,
                        <<"from">> => <<"News@A.test">>}),
    ?assertMatch(#{templates := [<<"Zoë 👋\t\r\n"/utf8>>, <<"S">>], scope := {hosts, [<<"a.test">>]},
                   type := chat, from := #jid{luser = <<"news">>, lserver = <<"a.test">>}}, Request).

host_is_prepared() ->
    ?assertMatch({ok, #{scope := {hosts, [<<"a.test">>]}}},
                 megaphone_request:parse(#{<<"template">> => <<"Hi">>, <<"to">> => <<"online@A.TEST">>})).

%% Last: it stays so.
hosts_without_the_module() ->
    ok = people_standin:without_module(<<"a.test">>),
    Online = #{<<"template">> => <<"Hi">>, <<"to">> => <<"online">>},
    ?assertMatch({ok, #{scope := {hosts, [<<"localhost">>]}}}, megaphone_request:parse(Online)),
    ?assertMatch({ok, #{scope := {hosts, [<<"localhost">>]}}},
                 megaphone_request:parse(Online#{<<"to">> := <<"online@localhost">>})),
    ?assertMatch({error, #{field := <<"to">>, what := <<"mod_megaphone does not run on a.test">>}},
                 megaphone_request:parse(Online#{<<"to">> := <<"online@a.test">>})).

refusals() ->
    Good = #{<<"template">> => <<"Hi">>, <<"to">> => <<"online">>},
    Big = binary:copy(<<"x">>, 65537),
    [{iolist_to_binary(io_lib:format("~0P", [Request, 30])),
      fun() ->
              {error, Refusal} = megaphone_request:parse(Request),
              ?assertMatch(#{field := Field, what := <<_, _/binary>>, remedy := <<_, _/binary>>}, Refusal),
              %% It must pass as JSON.
              ?assertMatch({ok, _}, megaphone_json:decode(megaphone_json:encode(Refusal)))
      end}
     || {Field, Request} <-
            [{<<"request">>, [1]}, {<<"request">>, <<"x">>}, {<<"request">>, null},
             {<<"template">>, maps:remove(<<"template">>, Good)},
             {<<"to">>, maps:remove(<<"to">>, Good)},
             {<<"templat">>, Good#{<<"templat">> => <<"x">>}},
             {<<"template">>, Good#{<<"template">> := 1}},
             {<<"template">>, Good#{<<"template">> := null}},
             {<<"template">>, Good#{<<"template">> := [<<"x">>]}},
             {<<"template">>, Good#{<<"template">> := <<>>}},
             {<<"template">>, Good#{<<"template">> := Big}},
             {<<"template">>, Good#{<<"template">> := <<"a", 0, "b">>}},
             {<<"template">>, Good#{<<"template">> := <<"a", 16#1b, "b">>}},
             {<<"template">>, Good#{<<"template">> := <<16#ef, 16#bf, 16#bf>>}},
             {<<"template">>, Good#{<<"template">> := <<"a", 255>>}},
             {<<"subject">>, Good#{<<"subject">> => <<>>}},
             {<<"subject">>, Good#{<<"subject">> => <<1>>}},
             {<<"subject">>, Good#{<<"subject">> => #{}}},
             {<<"to">>, Good#{<<"to">> := <<"everybody">>}},
             {<<"to">>, Good#{<<"to">> := <<>>}},
             {<<"to">>, Good#{<<"to">> := <<"online@">>}},
             {<<"to">>, Good#{<<"to">> := <<"online@b.test">>}},
             {<<"to">>, Good#{<<"to">> := <<"online@", (binary:copy(<<"x">>, 4000))/binary>>}},
             {<<"to">>, Good#{<<"to">> := 5}},
             {<<"type">>, Good#{<<"type">> => <<"groupchat">>}},
             {<<"type">>, Good#{<<"type">> => true}},
             {<<"from">>, Good#{<<"from">> => <<"@@">>}},
             {<<"from">>, Good#{<<"from">> => <<>>}},
             {<<"from">>, Good#{<<"from">> => <<"x@elsewhere.test">>}},
             {<<"from">>, Good#{<<"from">> => Big}},
             {<<"from">>, Good#{<<"from">> => []}}]].
