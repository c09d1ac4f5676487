-module(megaphone_fanout_tests).

-include_lib("eunit/include/eunit.hrl").
-include("xmpp.hrl").

%% Everybody gets one message with their own name in it, whatever happens on the way.

fanout_test_() ->
    {foreach,
     fun() ->
             ok = people_standin:start([<<"localhost">>]),
             _ = port_standin:install(),
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
             _ = [gen_server:stop(Port) || Port <- [whereis(megaphone_port)], is_pid(Port)],
             port_standin:remove(),
             people_standin:stop()
     end,
     [{timeout, 30, Test}
      || Test <- [fun everybody_once/0, fun nobody/0, fun with_subject/0, fun dropped/0, fun gone/0,
                  fun by_the_router/0, fun window/0, fun frozen/0, fun disconnected_in_flight/0,
                  fun port_down_at_the_start/0, fun the_owner_dies/0, fun answered_twice/0,
                  fun overload/0, fun too_large/0, fun one_text_too_large/0, fun failures/0,
                  fun wrong_count/0, fun fails_after_what_is_being_delivered/0, fun delivery_crashes/0, fun stalled/0, fun tables_are_freed/0, fun hides_bodies/0]]}.

people(N) ->
    [{Name, people_standin:open(Name, <<"localhost">>, <<"r">>)}
     || Name <- [<<"user", (integer_to_binary(I))/binary>> || I <- lists:seq(1, N)]].

start(Options) ->
    start(headline, Options).

start(Type, Options) ->
    Id = <<"b", (integer_to_binary(erlang:unique_integer([positive])))/binary>>,
    Progress = megaphone_progress:new(),
    All = maps:merge(#{id => Id, templates => [<<"Hello {{ user }}">>], names => [<<"user">>],
                       scope => all, message => #message{id = Id, type = Type},
                       progress => Progress, batch_size => 10, batches_in_flight => 2,
                       stall_timeout => 60000}, Options),
    {ok, Pid} = megaphone_fanout_sup:start_fanout(All),
    {Pid, erlang:monitor(process, Pid), Progress}.

%% How it ended.
ended({Pid, Monitor, Progress}) ->
    receive
        {'DOWN', Monitor, process, Pid, noproc} ->
            %% It was over before it was monitored. One that crashed owes somebody an outcome.
            Owed = lists:foldl(fun(Counter, Left) -> Left - megaphone_progress:count(Counter, Progress) end,
                               megaphone_progress:count(recipients, Progress), [sent, gone, dropped, failed]),
            {case Owed of 0 -> normal; _ -> noproc end, counts(Progress)};
        {'DOWN', Monitor, process, Pid, Reason} -> {Reason, counts(Progress)}
    after 20000 -> error({still_running, counts(Progress)})
    end.

counts(Progress) ->
    maps:from_list([{Counter, Count}
                    || Counter <- [recipients, sent, gone, dropped, failed, batches, batches_done],
                       Count <- [megaphone_progress:count(Counter, Progress)], Count =/= 0]).

state({_, _, Progress}) ->
    maps:get(<<"state">>, megaphone_progress:to_map(Progress)).

texts(Pid) ->
    [Text || #message{body = [#text{data = Text}]} <- people_standin:received(Pid)].

all_greeted(People) ->
    [?assertEqual([<<"Hello ", Name/binary>>], texts(Pid)) || {Name, Pid} <- People].

holds(N) ->
    megaphone_test:until(fun() -> Held = port_standin:held(), length(Held) =:= N andalso Held end).

everybody_once() ->
    People = people(95),
    _ = port_standin:start(connected),
    {_, _, Progress} = Fanout = start(#{}),
    ?assertEqual({normal, #{recipients => 95, sent => 95, batches => 10, batches_done => 10}}, ended(Fanout)),
    all_greeted(People),
    ?assertMatch(#{<<"resolve_seconds">> := Seconds} when Seconds > 0, megaphone_progress:to_map(Progress)),
    ?assertMatch([_], port_standin:unsubscribed()),
    Ids = [Id || {_, Pid} <- People, #message{id = Id} <- people_standin:received(Pid)],
    ?assertEqual(95, length(lists:usort(Ids))).

nobody() ->
    _ = port_standin:start(connected),
    [begin
         ok = Prepare(),
         ?assertEqual({normal, #{}}, ended(start(#{})))
     end || Prepare <- [fun() -> ok end, fun port_standin:disconnect/0]],
    ?assertEqual(2, length(megaphone_test:until(fun() -> Ids = port_standin:unsubscribed(),
                                                         length(Ids) =:= 2 andalso Ids end))).

with_subject() ->
    [{_, Pid}] = people(1),
    _ = port_standin:start(connected),
    {normal, _} = ended(start(#{templates => [<<"B {{ user }}">>, <<"S {{ user }}">>]})),
    ?assertMatch([#message{body = [#text{data = <<"B user1">>}], subject = [#text{data = <<"S user1">>}]}],
                 people_standin:received(Pid)).

dropped() ->
    People = people(20),
    _ = port_standin:start(connected),
    ok = port_standin:mode(hold),
    Fanout = start(#{}),
    [{0, Body}, {1, Other}] = holds(2),
    {[Texts], []} = binary_to_term(port_standin:format(Body)),
    ok = port_standin:answer(0, {done, term_to_binary({[Texts], [{0, invalid}, {9, template}]})}),
    ok = port_standin:answer(1, {done, port_standin:format(Other)}),
    ?assertEqual({normal, #{recipients => 20, sent => 18, dropped => 2, batches => 2, batches_done => 2}},
                 ended(Fanout)),
    ?assertEqual(18, length([ok || {Name, Pid} <- People, texts(Pid) =:= [<<"Hello ", Name/binary>>]])),
    ?assertEqual(2, length([ok || {_, Pid} <- People, texts(Pid) =:= []])).

gone() ->
    People = people(5),
    _ = [people_standin:open_dead(<<"dead">>, <<"localhost">>, integer_to_binary(I)) || I <- [1, 2, 3]],
    _ = port_standin:start(connected),
    ?assertEqual({normal, #{recipients => 8, sent => 5, gone => 3, batches => 1, batches_done => 1}},
                 ended(start(#{}))),
    all_greeted(People).

by_the_router() ->
    _ = [people_standin:open(<<"ann">>, <<"localhost">>, integer_to_binary(I)) || I <- [1, 2, 3]],
    _ = people_standin:open(<<"bob">>, <<"localhost">>, <<"1">>),
    _ = port_standin:start(connected),
    ?assertEqual({normal, #{recipients => 2, sent => 2, batches => 1, batches_done => 1}},
                 ended(start(chat, #{}))),
    ?assertEqual([{<<"ann">>, <<"Hello ann">>}, {<<"bob">>, <<"Hello bob">>}],
                 lists:sort([{User, Text} || #message{to = #jid{user = User}, body = [#text{data = Text}]}
                                                 <- people_standin:routed()])).

window() ->
    _ = people(100),
    _ = port_standin:start(connected),
    ok = port_standin:mode(hold),
    Fanout = start(#{batches_in_flight => 3}),
    Held = holds(3),
    %% One answer makes room for one more.
    {0, Body} = lists:keyfind(0, 1, Held),
    ok = port_standin:answer(0, {done, port_standin:format(Body)}),
    ?assertEqual([1, 2, 3], [N || {N, _} <- megaphone_test:until(
                                              fun() -> Now = port_standin:held(),
                                                       length(Now) =:= 3 andalso Now end)]),
    exit(element(1, Fanout), kill),
    ended(Fanout).

%% Who logs in after the walk is not part of it; who logs out is gone.
frozen() ->
    [{_, Leaver} | Stayers] = people(10),
    _ = port_standin:start(connected),
    ok = port_standin:mode(hold),
    Fanout = start(#{}),
    [{0, Body}] = holds(1),
    Late = people_standin:open(<<"late">>, <<"localhost">>, <<"r">>),
    Monitor = erlang:monitor(process, Leaver),
    exit(Leaver, kill),
    receive {'DOWN', Monitor, process, _, _} -> ok end,
    ok = port_standin:answer(0, {done, port_standin:format(Body)}),
    ?assertEqual({normal, #{recipients => 10, sent => 9, gone => 1, batches => 1, batches_done => 1}},
                 ended(Fanout)),
    all_greeted(Stayers),
    ?assertEqual([], texts(Late)).

disconnected_in_flight() ->
    People = people(50),
    _ = port_standin:start(connected),
    ok = port_standin:mode(hold),
    Fanout = start(#{}),
    [{0, Body}, {1, _}] = holds(2),
    ok = port_standin:answer(0, {done, port_standin:format(Body)}),
    [{1, _}, {2, _}] = holds(2),
    ok = port_standin:disconnect(),
    megaphone_test:until(fun() -> state(Fanout) =:= <<"waiting">> end),
    ?assertEqual(10, maps:get(sent, counts(element(3, Fanout)))),
    ok = port_standin:mode(auto),
    ok = port_standin:connect(),
    ?assertEqual({normal, #{recipients => 50, sent => 50, batches => 5, batches_done => 5}}, ended(Fanout)),
    all_greeted(People),
    %% 1 and 2 were asked twice, 0 once.
    ?assertEqual([0, 1, 1, 2, 2, 3, 4], lists:sort(port_standin:sent())).

port_down_at_the_start() ->
    People = people(20),
    _ = port_standin:start(disconnected),
    Fanout = start(#{}),
    megaphone_test:until(fun() -> state(Fanout) =:= <<"waiting">> end),
    ?assertEqual(#{recipients => 20, batches => 2}, counts(element(3, Fanout))),
    ok = port_standin:connect(),
    {normal, #{sent := 20}} = ended(Fanout),
    all_greeted(People).

the_owner_dies() ->
    People = people(20),
    Owner = port_standin:start(connected),
    ok = port_standin:mode(hold),
    Fanout = start(#{}),
    _ = holds(2),
    exit(Owner, kill),
    megaphone_test:until(fun() -> state(Fanout) =:= <<"waiting">> andalso whereis(megaphone_port) =:= undefined end),
    _ = port_standin:start(connected),
    {normal, #{sent := 20}} = ended(Fanout),
    all_greeted(People).

answered_twice() ->
    People = people(20),
    _ = port_standin:start(connected),
    ok = port_standin:mode(hold),
    Fanout = start(#{}),
    [{0, Body}, {1, Other}] = holds(2),
    ok = port_standin:answer(0, {done, port_standin:format(Body)}),
    ok = port_standin:answer(0, {done, port_standin:format(Body)}),
    ok = port_standin:answer(7, {done, port_standin:format(Body)}),
    ok = port_standin:answer(1, {done, port_standin:format(Other)}),
    ?assertEqual({normal, #{recipients => 20, sent => 20, batches => 2, batches_done => 2}}, ended(Fanout)),
    all_greeted(People).

overload() ->
    People = people(30),
    _ = port_standin:start(connected),
    ok = port_standin:mode(overload),
    Fanout = start(#{}),
    megaphone_test:until(fun() -> state(Fanout) =:= <<"running">> end),
    ?assertEqual([], port_standin:sent()),
    ok = port_standin:mode(auto),
    {normal, #{sent := 30}} = ended(Fanout),
    all_greeted(People).

too_large() ->
    People = people(45),
    _ = port_standin:start(connected),
    ok = port_standin:mode({too_large, 3}),
    {normal, #{sent := 45, batches := Batches, batches_done := Batches}} = ended(start(#{})),
    ?assert(Batches >= 15),
    all_greeted(People).

one_text_too_large() ->
    _ = people(4),
    _ = port_standin:start(connected),
    ok = port_standin:mode({too_large, 0}),
    {normal, #{failed := 4, recipients := 4}} = ended(start(#{})).

failures() ->
    _ = people(30),
    _ = port_standin:start(connected),
    ok = port_standin:mode(hold),
    [begin
         Fanout = start(#{}),
         [{0, Body}, {1, _}] = holds(2),
         ok = port_standin:answer(0, {done, port_standin:format(Body)}),
         _ = holds(2),
         ok = port_standin:answer(1, {failed, Reason, <<"why">>}),
         %% What was sent stays counted.
         ?assertMatch({normal, #{recipients := 30, sent := 10, failed := 20}}, ended(Fanout)),
         port_standin:disconnect(),
         port_standin:connect()
     end || Reason <- [timeout, memory, crash, bad_batch]].

fails_after_what_is_being_delivered() ->
    _ = people(30),
    ok = people_standin:gate(hold),
    _ = port_standin:start(connected),
    ok = port_standin:mode(hold),
    {Pid, Monitor, _} = Fanout = start(chat, #{}),
    [{0, Body}, {1, _}] = holds(2),
    ok = port_standin:answer(0, {done, port_standin:format(Body)}),
    [{1, _}, {2, _}] = holds(2),
    ok = port_standin:answer(1, {failed, crash, <<"why">>}),
    %% It has read the failure once it answers, and is still there.
    _ = sys:get_state(Pid),
    receive {'DOWN', Monitor, _, _, _} -> error(ended_too_soon) after 0 -> ok end,
    ok = people_standin:gate(open),
    ?assertEqual({normal, #{recipients => 30, sent => 10, failed => 20, batches => 3, batches_done => 1}},
                 ended(Fanout)),
    ?assertEqual(10, length(people_standin:routed())).

%% Who has got it is not known: the broadcast fails, and its text stays out of the log.
delivery_crashes() ->
    Secret = <<"the-secret-text">>,
    _ = people(10),
    ok = people_standin:gate(crash),
    _ = port_standin:start(connected),
    megaphone_test:with_log(
      fun() ->
              {{Reason, _}, _} = ended(start(chat, #{templates => [Secret]})),
              ?assertEqual({badmatch, redacted}, Reason),
              megaphone_test:until(fun() -> megaphone_test:logged("megaphone_delivery") =/= [] end),
              ?assertEqual(nomatch, string:find(megaphone_test:log_text(), Secret))
      end).

%% One text too many or too few: nobody of the batch gets anything.
wrong_count() ->
    People = people(10),
    _ = port_standin:start(connected),
    ok = port_standin:mode(hold),
    [begin
         Fanout = start(#{}),
         [{0, Body}] = holds(1),
         {[Texts], []} = binary_to_term(port_standin:format(Body)),
         ok = port_standin:answer(0, {done, term_to_binary({[Change(Texts)], []})}),
         ?assertEqual({normal, #{recipients => 10, failed => 10, batches => 1}}, ended(Fanout)),
         [?assertEqual([], texts(Pid)) || {_, Pid} <- People]
     end || Change <- [fun(Texts) -> <<Texts/binary, 0>> end,
                       fun(Texts) -> hd(binary:split(Texts, <<0>>)) end]].

stalled() ->
    _ = people(1),
    _ = port_standin:start(disconnected),
    ?assertEqual({normal, #{recipients => 1, failed => 1, batches => 1}},
                 ended(start(#{stall_timeout => 100}))),
    ok = port_standin:connect(),
    ok = port_standin:mode(hold),
    ?assertMatch({normal, #{failed := 1}}, ended(start(#{stall_timeout => 100}))).

tables_are_freed() ->
    _ = people(50),
    _ = port_standin:start(connected),
    Tables = length(ets:all()),
    [{normal, _} = ended(start(#{})) || _ <- lists:seq(1, 5)],
    ?assertEqual(Tables, length(ets:all())).

hides_bodies() ->
    Secret = <<"the-secret-text">>,
    _ = people(10),
    _ = port_standin:start(connected),
    ok = port_standin:mode(hold),
    {Pid, _, _} = Fanout = start(#{templates => [Secret]}),
    _ = holds(1),
    megaphone_test:with_log(
      fun() ->
              Pid ! {megaphone_batch, not_mine, 0, {done, Secret}},
              %% A crash with the text at hand: the table is gone under it.
              _ = sys:replace_state(Pid, fun(State) -> setelement(4, State, Secret) end),
              ok = port_standin:answer(0, {done, Secret}),
              {Reason, _} = ended(Fanout),
              ?assertNotEqual(normal, Reason),
              megaphone_test:until(fun() -> megaphone_test:logged("megaphone_fanout") =/= [] end),
              ?assertEqual(nomatch, string:find(megaphone_test:log_text(), Secret)),
              ?assertEqual(nomatch, string:find(io_lib:format("~p", [Reason]), Secret))
      end).
