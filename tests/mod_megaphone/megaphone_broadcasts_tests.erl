-module(megaphone_broadcasts_tests).

-include_lib("eunit/include/eunit.hrl").
-include("xmpp.hrl").

broadcasts_test_() ->
    {foreach,
     fun() ->
             ok = people_standin:start([<<"localhost">>]),
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
     [fun accepted/0, fun newest_first/0, fun refused_at_once/0, fun bad_template/0, fun bad_subject/0,
      fun unknown_column/0, fun not_connected/0, fun unready/0, fun full/0, fun killed/0,
      fun failed/0, fun remembers_a_hundred/0, fun as_metrics/0]}.

down_test() ->
    ?assertEqual([], megaphone_broadcasts:list()),
    ?assertEqual(error, megaphone_broadcasts:find(<<"x">>)).

request() ->
    #{<<"template">> => <<"Hello {{ user }}">>, <<"to">> => <<"online">>}.

ended(Id) ->
    megaphone_test:until(fun() ->
                                 {ok, Document} = megaphone_broadcasts:find(Id),
                                 lists:member(maps:get(<<"state">>, Document), [<<"done">>, <<"failed">>])
                                     andalso Document
                         end).

accepted() ->
    Pid = people_standin:open(<<"ann">>, <<"localhost">>, <<"r">>),
    {ok, #{<<"id">> := Id, <<"type">> := <<"headline">>, <<"way">> := <<"session">>,
           <<"started">> := Started}} = megaphone_broadcasts:accept(request()),
    ?assert(abs(erlang:system_time(second) - Started) < 60),
    Document = ended(Id),
    ?assertMatch(#{<<"state">> := <<"done">>, <<"error">> := undefined, <<"recipients">> := 1,
                   <<"sent">> := 1, <<"gone">> := 0, <<"dropped">> := 0, <<"failed">> := 0,
                   <<"batches">> := 1, <<"batches_done">> := 1}, Document),
    #{<<"seconds">> := Seconds, <<"resolve_seconds">> := Resolve} = Document,
    ?assert(Seconds > 0 andalso Resolve > 0 andalso Resolve < Seconds),
    ?assertMatch([#message{type = headline, id = <<Id:12/binary, "-0">>}], people_standin:received(Pid)),
    %% The time stands still.
    ?assertEqual({ok, Document}, megaphone_broadcasts:find(Id)).

newest_first() ->
    Ids = [begin {ok, #{<<"id">> := Id}} = megaphone_broadcasts:accept(request()), _ = ended(Id), Id end
           || _ <- lists:seq(1, 20)],
    ?assertEqual(Ids, lists:usort(Ids)),
    ?assertEqual(lists:reverse(Ids), [Id || #{<<"id">> := Id} <- megaphone_broadcasts:list()]).

refused_at_once() ->
    {error, #{field := <<"to">>}} = megaphone_broadcasts:accept((request())#{<<"to">> := <<"nobody">>}),
    {error, #{field := <<"request">>}} = megaphone_broadcasts:accept([]),
    ?assertEqual([], megaphone_broadcasts:list()).

bad_template() ->
    ok = port_standin:mode({reply, {ok, {invalid, 0, <<"line 1: unknown name">>}}}),
    ?assertMatch({error, #{field := <<"template">>, what := <<"line 1: unknown name">>}},
                 megaphone_broadcasts:accept(request())),
    ?assertEqual([], megaphone_broadcasts:list()).

bad_subject() ->
    ok = port_standin:mode({reply, {ok, {invalid, 1, <<"no">>}}}),
    ?assertMatch({error, #{field := <<"subject">>}},
                 megaphone_broadcasts:accept((request())#{<<"subject">> => <<"x">>})).

unknown_column() ->
    ok = port_standin:mode({reply, {ok, {ok, #{<<"columns">> => [<<"resource">>, <<"user">>]}}}}),
    ?assertMatch({error, #{field := <<"template">>}},
                 megaphone_broadcasts:accept((request())#{<<"type">> => <<"chat">>})).

not_connected() ->
    ok = port_standin:mode({reply, {error, disconnected}}),
    ?assertMatch({error, #{field := undefined, what := <<"the port program is not connected">>}},
                 megaphone_broadcasts:accept(request())),
    ?assertEqual([], megaphone_broadcasts:list()).

unready() ->
    [begin
         ok = port_standin:mode({reply, Answer}),
         ?assertMatch({error, #{field := undefined, what := <<_, _/binary>>}},
                      megaphone_broadcasts:accept(request()))
     end || Answer <- [{error, timeout}, {error, overload}, {error, {crash, <<"oops">>}},
                       {ok, nonsense}, {ok, {invalid, x, 5}}]],
    ?assertEqual([], megaphone_broadcasts:list()).

full() ->
    _ = people_standin:open(<<"ann">>, <<"localhost">>, <<"r">>),
    ok = port_standin:mode(hold),
    Most = mod_megaphone:option(max_broadcasts),
    Ids = [begin {ok, #{<<"id">> := Id}} = megaphone_broadcasts:accept(request()), Id end
           || _ <- lists:seq(1, Most)],
    ?assertMatch({error, #{field := undefined, remedy := <<"wait until", _/binary>>}},
                 megaphone_broadcasts:accept(request())),
    ?assertEqual(Most, length(megaphone_broadcasts:list())),
    %% Room again once they have ended.
    _ = [exit(Pid, kill) || {_, Pid, _, _} <- supervisor:which_children(megaphone_fanout_sup)],
    _ = [ended(Id) || Id <- Ids],
    ok = port_standin:mode(auto),
    {ok, #{<<"id">> := Last}} = megaphone_test:until(
                                  fun() -> case megaphone_broadcasts:accept(request()) of
                                               {ok, _} = Ok -> Ok;
                                               {error, _} -> false
                                           end
                                  end),
    ?assertMatch(#{<<"state">> := <<"done">>}, ended(Last)).

killed() ->
    _ = people_standin:open(<<"ann">>, <<"localhost">>, <<"r">>),
    ok = port_standin:mode(hold),
    {ok, #{<<"id">> := Id}} = megaphone_broadcasts:accept(request()),
    [{_, Pid, _, _}] = supervisor:which_children(megaphone_fanout_sup),
    exit(Pid, kill),
    ?assertMatch(#{<<"state">> := <<"failed">>, <<"error">> := <<"its process was killed">>}, ended(Id)).

failed() ->
    _ = people_standin:open(<<"ann">>, <<"localhost">>, <<"r">>),
    ok = port_standin:mode(hold),
    {ok, #{<<"id">> := Id}} = megaphone_broadcasts:accept(request()),
    _ = megaphone_test:until(fun() -> port_standin:held() =/= [] end),
    ok = port_standin:answer(0, {failed, memory, <<"it wanted 1 GB">>}),
    ?assertMatch(#{<<"state">> := <<"failed">>, <<"failed">> := 1, <<"sent">> := 0,
                   <<"error">> := <<"a template wants more memory than a worker may have: it wanted 1 GB">>},
                 ended(Id)).

remembers_a_hundred() ->
    Ids = [begin {ok, #{<<"id">> := Id}} = megaphone_test:until(
                                             fun() -> case megaphone_broadcasts:accept(request()) of
                                                          {ok, _} = Ok -> Ok;
                                                          {error, _} -> false
                                                      end end),
                 _ = ended(Id), Id end || _ <- lists:seq(1, 103)],
    megaphone_test:until(fun() -> length(megaphone_broadcasts:list()) =:= 100 end),
    ?assertEqual(lists:reverse(lists:nthtail(3, Ids)),
                 [Id || #{<<"id">> := Id} <- megaphone_broadcasts:list()]).

as_metrics() ->
    ok = megaphone_counts:start(),
    _ = people_standin:open(<<"ann">>, <<"localhost">>, <<"r">>),
    None = #{<<"broadcasts">> => [{<<"resolving">>, 0}, {<<"running">>, 0}, {<<"waiting">>, 0}]},
    ?assertEqual(None, megaphone_broadcasts:metrics()),
    port_standin:mode(hold),
    {ok, #{<<"id">> := Id}} = megaphone_broadcasts:accept(request()),
    megaphone_test:until(fun() ->
                                 #{<<"broadcasts">> := Rows} = megaphone_broadcasts:metrics(),
                                 lists:member({<<"running">>, 1}, Rows)
                         end),
    [{N, Body}] = megaphone_test:until(fun() -> case port_standin:held() of [] -> false; Held -> Held end end),
    port_standin:answer(N, {done, port_standin:format(Body)}),
    _ = ended(Id),
    ?assertEqual(None, megaphone_broadcasts:metrics()),
    #{<<"broadcasts_finished_total">> := Finished, <<"recipients_total">> := Recipients,
      <<"batch_stage_seconds">> := Stages} = megaphone_counts:metrics(),
    ?assertEqual([{<<"done">>, 1}, {<<"failed">>, 0}], Finished),
    ?assertEqual(1, proplists:get_value(<<"sent">>, Recipients)),
    [?assertEqual(1, lists:sum(Counts)) || {_, {_, Counts, _}} <- Stages],
    megaphone_counts:stop().
