-module(megaphone_commands_tests).

-include_lib("eunit/include/eunit.hrl").
-include("ejabberd_commands.hrl").

commands_test_() ->
    {foreach,
     fun() ->
             ok = people_standin:start([<<"localhost">>, <<"a.test">>]),
             ok = people_standin:without_module(<<"a.test">>),
             _ = port_standin:install(),
             _ = port_standin:start(connected),
             {ok, Broadcasts} = megaphone_broadcasts:start_link(),
             {ok, Sup} = megaphone_fanout_sup:start_link(),
             _ = [unlink(Pid) || Pid <- [Broadcasts, Sup]],
             [Broadcasts, Sup]
     end,
     fun(Pids) ->
             _ = [begin
                      Monitor = erlang:monitor(process, Pid),
                      exit(Pid, shutdown),
                      receive {'DOWN', Monitor, process, _, _} -> ok end
                  end || Pid <- Pids],
             port_standin:stop(),
             port_standin:remove(),
             people_standin:stop()
     end,
     [fun specs/0, fun broadcast/0, fun bad_requests/0, fun unknown_broadcast/0, fun status/0,
      fun status_without_python/0]}.

%% ejabberdctl prints a list of characters as it is; on 23.01 it takes a binary for Latin-1.
document(Answer) ->
    ?assert(is_list(Answer)),
    ?assert(lists:all(fun(C) -> C >= 32 andalso C < 127 end, Answer)),
    {ok, Document} = megaphone_json:decode(list_to_binary(Answer)),
    Document.

specs() ->
    Specs = megaphone_commands:get_commands_spec(),
    ?assertEqual([megaphone_broadcast, megaphone_broadcast_status, megaphone_status],
                 lists:sort([Name || #ejabberd_commands{name = Name} <- Specs])),
    [begin
         ?assertMatch({_, string}, Result),
         ?assert(erlang:function_exported(Module, Function, length(Args)))
     end || #ejabberd_commands{module = Module, function = Function, args = Args, result = Result} <- Specs].

broadcast() ->
    _ = people_standin:open(<<"zoë"/utf8>>, <<"localhost">>, <<"r">>),
    #{<<"id">> := Id} =
        document(megaphone_commands:broadcast(<<"{\"template\": \"Hi {{ user }}\", \"to\": \"online\"}">>)),
    Done = megaphone_test:until(
             fun() ->
                     Document = document(megaphone_commands:broadcast_status(Id)),
                     maps:get(<<"state">>, Document) =:= <<"done">> andalso Document
             end),
    ?assertMatch(#{<<"id">> := Id, <<"sent">> := 1, <<"error">> := null}, Done).

bad_requests() ->
    [?assertMatch(#{<<"error">> := #{<<"field">> := Field, <<"what">> := <<_, _/binary>>,
                                     <<"remedy">> := <<_, _/binary>>}},
                  document(megaphone_commands:broadcast(Request)))
     || {Field, Request} <-
            [{<<"request">>, <<>>}, {<<"request">>, <<"{">>}, {<<"request">>, <<"[]">>},
             {<<"request">>, <<255, 254>>}, {<<"request">>, binary:copy(<<"[">>, 100000)},
             {<<"request">>, binary:copy(<<" ">>, 2000000)},
             {<<"template">>, <<"{\"to\": \"online\"}">>},
             {<<"template">>, <<"{\"to\": \"online\", \"template\": \"\\u0000\"}">>},
             {<<"Zoë"/utf8>>, <<"{\"Zo\\u00eb\": 1}">>}]],
    ?assertEqual([], megaphone_broadcasts:list()).

unknown_broadcast() ->
    ?assertMatch(#{<<"error">> := #{<<"field">> := <<"id">>}},
                 document(megaphone_commands:broadcast_status(<<"nope">>))).

status() ->
    _ = people_standin:open(<<"ann">>, <<"localhost">>, <<"r">>),
    ok = port_standin:mode({reply, {ok, #{<<"bridge">> => #{<<"pid">> => 7, <<"http">> => undefined}}}}),
    Name = atom_to_binary(node(), utf8),
    Otp = list_to_binary(erlang:system_info(otp_release)),
    ?assertMatch(#{<<"node">> := #{<<"name">> := Name, <<"otp">> := Otp, <<"sessions">> := 1,
                                   <<"vhosts">> := [<<"localhost">>], <<"uptime_seconds">> := _,
                                   <<"version">> := _, <<"ejabberd">> := _},
                   <<"port">> := #{<<"state">> := <<"connected">>},
                   <<"bridge">> := #{<<"pid">> := 7, <<"http">> := null},
                   <<"broadcasts">> := []}, document(megaphone_commands:status())).

status_without_python() ->
    [begin
         ok = port_standin:mode({reply, Answer}),
         ?assertMatch(#{<<"bridge">> := null, <<"bridge_error">> := <<_, _/binary>>, <<"node">> := _},
                      document(megaphone_commands:status()))
     end || Answer <- [{error, disconnected}, {error, timeout}, {error, {crash, <<"x\n">>}}, {ok, #{}},
                       {ok, 5}]].
