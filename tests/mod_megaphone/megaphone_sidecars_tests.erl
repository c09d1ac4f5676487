-module(megaphone_sidecars_tests).

-include_lib("eunit/include/eunit.hrl").

unix() -> #{}.

tcp() -> #{sidecar => #{port => sidecar_test:free_port()}}.

on_node(Fun) -> sidecar_test:with_node(unix(), fun(Where, _) -> Fun(Where) end).

start(Where, Claim) ->
    {ok, Pid} = sidecar_standin:start(Where, Claim),
    Pid.

names(Names, Where) -> [start(Where, #{identity => Name}) || Name <- Names].

until(Condition) -> megaphone_test:until(Condition).

until_state(Pid, State) ->
    until(fun() -> sidecar_standin:state(Pid) =:= State end).

until_connected(Connected) ->
    until(fun() -> sidecar_test:connected() =:= Connected end).

until_port(State) ->
    until(fun() -> sidecar_test:port_state() =:= State end).

active(Name) -> {<<"active">>, Name}.
standby(Name) -> {<<"standby">>, Name}.

epoch() -> maps:get(<<"epoch">>, megaphone_sidecars:status()).

%% Connections that have said nothing.
silent(Where, N) ->
    [begin {ok, Connection} = sidecar_standin:connect(Where), Connection end || _ <- lists:seq(1, N)].

connections() ->
    proplists:get_value(active, supervisor:count_children(megaphone_sidecar_sup)).

%% Those that the node has not closed.
open(Connections) ->
    [Connection || Connection <- Connections, element(2, sidecar_standin:left(Connection, 0)) =:= open].

%% The oldest makes room; what is logged does not grow with their number.
crowd_test_() ->
    on_node(fun(Where) ->
        Silent = silent(Where, 64),
        until(fun() -> connections() =:= 64 end),
        ?assertEqual(Silent, open(Silent)),
        [More] = silent(Where, 1),
        until(fun() -> open(Silent) =:= tl(Silent) end),
        until(fun() -> connections() =:= 64 end),
        Again = silent(Where, 20),
        until(fun() -> length(open(Silent)) =:= 43 end),
        ?assertEqual(lists:nthtail(21, Silent), open(Silent)),
        until(fun() -> connections() =:= 64 end),
        ?assertMatch([{warning, _}], megaphone_test:logged("too many connections say nothing")),
        ?assertEqual([], [Line || {Level, _} = Line <- megaphone_test:logged(""), Level =:= error]),
        ?assertEqual([{<<"silent">>, 21}], sidecar_test:refusals()),
        [ok = sidecar_standin:close(Connection) || Connection <- [More | Silent ++ Again]]
    end).

%% Whoever holds every place keeps nobody out.
two_thousand_test_() ->
    sidecar_test:with_node(tcp(), fun(Where, _) ->
        Ports = length(erlang:ports()),
        %% As many at once as the backlog takes.
        Silent = [begin
                      Hundred = silent(Where, 100),
                      until(fun() -> sidecar_test:refusals() =:= [{<<"silent">>, 100 * N - 64}] end),
                      Hundred
                  end || N <- lists:seq(1, 20)],
        until(fun() -> connections() =:= 64 end),
        %% Theirs and the node's.
        until(fun() -> length(erlang:ports()) - Ports =< 2000 + 64 end),
        Real = start(Where, #{}),
        until_state(Real, {active, 1}),
        until_port(<<"connected">>),
        ?assertEqual({ok, x}, megaphone_port:call(<<"echo">>, x, 5000)),
        ?assertMatch([{warning, _}], megaphone_test:logged("too many connections say nothing")),
        ?assert(length(megaphone_test:logged("")) < 20),
        [ok = sidecar_standin:close(Connection) || Connection <- lists:append(Silent)],
        until(fun() -> connections() =:= 0 end),
        sidecar_standin:stop(Real)
    end).

%% Names.

second_of_a_name_test_() ->
    on_node(fun(Where) ->
        [One, Two] = names([<<"one">>, <<"two">>], Where),
        until_state(One, {active, 1}),
        [begin
             {refused, 4, Text} = sidecar_standin:start(Where, #{identity => Name}),
             ?assertEqual(<<"a sidecar named ", Name/binary, " is connected already, from the Unix socket: give "
                            "each a state_dir of its own, or set sidecar.identity">>, Text)
         end || Name <- [<<"one">>, <<"two">>]],
        ?assertEqual([active(<<"one">>), standby(<<"two">>)], sidecar_test:connected()),
        ?assertEqual([{<<"identity">>, 2}], sidecar_test:refusals()),
        ?assertMatch([{warning, _}], megaphone_test:logged("is connected already")),
        %% A name is free when its connection is gone.
        sidecar_standin:stop(Two),
        until_connected([active(<<"one">>)]),
        Again = start(Where, #{identity => <<"two">>}),
        until_connected([active(<<"one">>), standby(<<"two">>)]),
        [sidecar_standin:stop(Pid) || Pid <- [One, Again]]
    end).

%% It has lost its connection, and is back before the node has seen that.
same_instance_test_() ->
    on_node(fun(Where) ->
        Claims = [#{identity => Name, instance => crypto:strong_rand_bytes(16)} || Name <- [<<"one">>, <<"two">>]],
        [One, Two] = [start(Where, Claim) || Claim <- Claims],
        until_state(One, {active, 1}),
        TwoAgain = start(Where, lists:last(Claims)),
        until_state(Two, closed),
        until_connected([active(<<"one">>), standby(<<"two">>)]),
        %% The active one goes to the end of the queue.
        OneAgain = start(Where, hd(Claims)),
        until_state(One, closed),
        until_state(TwoAgain, {active, 2}),
        until_connected([active(<<"two">>), standby(<<"one">>)]),
        ?assertMatch([_], megaphone_test:logged("the sidecar one is gone: it has connected anew")),
        ?assertEqual([], [Line || {Level, _} = Line <- megaphone_test:logged(""), Level =:= error]),
        ?assertEqual([], sidecar_test:refusals()),
        sidecar_standin:stop(TwoAgain),
        until_state(OneAgain, {active, 3}),
        [sidecar_standin:stop(Pid) || Pid <- [One, Two, OneAgain]]
    end).

%% Alone: its own turn comes again.
same_instance_alone_test_() ->
    on_node(fun(Where) ->
        Claim = #{instance => crypto:strong_rand_bytes(16)},
        One = start(Where, Claim),
        until_state(One, {active, 1}),
        Again = start(Where, Claim#{epoch => 1}),
        until_state(Again, {active, 2}),
        until_state(One, closed),
        until_connected([active(<<"one">>)]),
        [sidecar_standin:stop(Pid) || Pid <- [One, Again]]
    end).

busy_test_() ->
    on_node(fun(Where) ->
        [Active | Standby] = names([integer_to_binary(N) || N <- lists:seq(0, 16)], Where),
        until_state(Active, {active, 1}),
        ?assertEqual({refused, 6, <<"as many sidecars stand by as may">>},
                     sidecar_standin:start(Where, #{identity => <<"17">>})),
        ?assertEqual(17, length(sidecar_test:connected())),
        ?assertEqual([{<<"other">>, 1}], sidecar_test:refusals()),
        sidecar_standin:stop(Active),
        until_state(hd(Standby), {active, 2}),
        Last = start(Where, #{identity => <<"17">>}),
        ?assertEqual(standby(<<"17">>), lists:last(sidecar_test:connected())),
        [sidecar_standin:stop(Pid) || Pid <- [Last | Standby]]
    end).

%% Turns.

%% Who stands by longest is next, each with a higher epoch, at once.
takeover_test_() ->
    [sidecar_test:with_node(Changes, fun(Where, _) ->
         [One, Two, Three] = Sidecars = names([<<"one">>, <<"two">>, <<"three">>], Where),
         until_state(One, {active, 1}),
         until_port(<<"connected">>),
         {ok, connected} = megaphone_port:subscribe(<<"b">>),
         Began = erlang:monotonic_time(millisecond),
         ok = sidecar_standin:tell(One, close),
         until_state(Two, {active, 2}),
         until_port(<<"connected">>),
         ?assert(erlang:monotonic_time(millisecond) - Began < 1000),
         ?assertEqual([{megaphone_port, disconnected}, {megaphone_port, connected}],
                      [receive {megaphone_port, _} = Message -> Message after 5000 -> late end || _ <- [1, 2]]),
         ?assertEqual({ok, x}, megaphone_port:call(<<"echo">>, x, 5000)),
         ok = sidecar_standin:tell(Two, close),
         until_state(Three, {active, 3}),
         until_port(<<"connected">>),
         ?assertEqual([active(<<"three">>)], sidecar_test:connected()),
         ?assertEqual(3, megaphone_counts:count(sidecar_turns)),
         ?assertMatch([_], megaphone_test:logged("the sidecar one is gone: it closed the connection; 2 stand by")),
         %% Nobody is left, and the next one has its turn.
         ok = sidecar_standin:tell(Three, close),
         until_port(<<"waiting">>),
         until_connected([]),
         ?assertEqual({error, disconnected}, megaphone_port:call(<<"echo">>, x, 100)),
         Four = start(Where, #{identity => <<"one">>, epoch => 1}),
         until_state(Four, {active, 4}),
         ?assertEqual([[1], [2], [3], [4]], [sidecar_standin:epochs(Pid) || Pid <- Sidecars ++ [Four]]),
         [sidecar_standin:stop(Pid) || Pid <- [Four | Sidecars]]
     end) || Changes <- [unix(), tcp()]].

%% Above what this node has seen, and what any sidecar that came has, its turn or not.
epochs_test_() ->
    on_node(fun(Where) ->
        One = start(Where, #{identity => <<"one">>, epoch => 41}),
        until_state(One, {active, 42}),
        Two = start(Where, #{identity => <<"two">>, epoch => 1000}),
        Three = start(Where, #{identity => <<"three">>, epoch => 7}),
        ?assertEqual(1000, epoch()),
        sidecar_standin:stop(One),
        until_state(Two, {active, 1001}),
        sidecar_standin:stop(Two),
        until_state(Three, {active, 1002}),
        ?assertEqual(1002, epoch()),
        sidecar_standin:stop(Three)
    end).

%% The bookkeeping is started anew while the port has a sidecar: that one stays, the next one waits for
%% its turn, and its epoch is higher all the same.
restarted_while_active_test_() ->
    on_node(fun(Where) ->
        One = start(Where, #{identity => <<"one">>, epoch => 41}),
        until_port(<<"connected">>),
        Before = whereis(megaphone_sidecars),
        exit(Before, kill),
        until(fun() -> Pid = whereis(megaphone_sidecars), is_pid(Pid) andalso Pid =/= Before
                           andalso is_map(megaphone_sidecars:status()) end),
        until(fun() -> maps:get(<<"listening">>, megaphone_sidecars:status()) =/= undefined end),
        Two = start(Where, #{identity => <<"two">>}),
        until_connected([standby(<<"two">>)]),
        ?assertEqual({ok, x}, megaphone_port:call(<<"echo">>, x, 5000)),
        ?assertEqual({active, 42}, sidecar_standin:state(One)),
        ?assertEqual(standby, sidecar_standin:state(Two)),
        sidecar_standin:stop(One),
        until_state(Two, {active, 43}),
        until_port(<<"connected">>),
        sidecar_standin:stop(Two)
    end).

%% The same where nobody is connected: the node remembers how far it was.
restarted_while_waiting_test_() ->
    on_node(fun(Where) ->
        One = start(Where, #{epoch => 41}),
        until_port(<<"connected">>),
        sidecar_standin:stop(One),
        until_port(<<"waiting">>),
        Before = whereis(megaphone_sidecars),
        exit(Before, kill),
        until(fun() -> Pid = whereis(megaphone_sidecars), is_pid(Pid) andalso Pid =/= Before
                           andalso is_map(megaphone_sidecars:status()) end),
        until(fun() -> maps:get(<<"listening">>, megaphone_sidecars:status()) =/= undefined end),
        Two = start(Where, #{identity => <<"two">>}),
        until_state(Two, {active, 43}),
        sidecar_standin:stop(Two)
    end).

%% A connection whose process does not come to its turn keeps nobody else from it.
stuck_test_() ->
    on_node(fun(Where) ->
        [One, Two, Three] = names([<<"one">>, <<"two">>, <<"three">>], Where),
        until_state(One, {active, 1}),
        [Stuck, _] = lists:sort([Pid || {_, Pid, _, _} <- supervisor:which_children(megaphone_sidecar_sup)]),
        true = erlang:suspend_process(Stuck),
        Began = erlang:monotonic_time(millisecond),
        ok = sidecar_standin:tell(One, close),
        until_state(Three, {active, 3}),
        ?assert(erlang:monotonic_time(millisecond) - Began < 3000),
        until_state(Two, closed),
        ?assertEqual([active(<<"three">>)], sidecar_test:connected()),
        [sidecar_standin:stop(Pid) || Pid <- [One, Two, Three]]
    end).

%% One whose turn comes has two seconds for its hello, and that it beats is not enough.
no_hello_test_() ->
    on_node(fun(Where) ->
        Began = erlang:monotonic_time(millisecond),
        Mute = start(Where, #{identity => <<"mute">>, hello => false}),
        Next = start(Where, #{identity => <<"next">>}),
        until_state(Next, {active, 2}),
        Took = erlang:monotonic_time(millisecond) - Began,
        ?assert(Took >= 1990 andalso Took < 4000),
        until_state(Mute, closed),
        ?assertMatch([_], megaphone_test:logged("the sidecar mute is gone: it said no hello in time; 1 stand by")),
        [sidecar_standin:stop(Pid) || Pid <- [Mute, Next]]
    end).

%% What the operator reads.

refusals_test_() ->
    sidecar_test:with_node(tcp(), fun(Where, _) ->
        Address = fun(N) -> {127, 0, 1, N} end,
        Guess = fun(N) ->
                        {ok, Connection} = sidecar_standin:connect(Where, [{ip, Address(N)}]),
                        {refused, 1, _} = sidecar_standin:joined(Connection, sidecar_standin:claim(#{secret => <<"x">>}))
                end,
        Lines = fun() -> [Text || {warning, Text} <- megaphone_test:logged("refused")] end,
        [Guess(N) || N <- lists:seq(1, 20)],
        until(fun() -> sidecar_test:refusals() =:= [{<<"secret">>, 20}] end),
        ?assertEqual(["megaphone: a connection from 127.0.1.1 was refused: its secret is not that of "
                      "sidecar.secret_file"], Lines()),
        %% What a timer says after a while.
        Summary = fun() -> megaphone_sidecars ! {summary, secret}, _ = megaphone_sidecars:status(), lists:last(Lines()) end,
        ?assertEqual("megaphone: 19 more connections of the kind were refused: its secret is not that of "
                     "sidecar.secret_file", Summary()),
        %% Nothing more: nothing is said, and the next one is told again.
        _ = Summary(),
        ?assertEqual(2, length(Lines())),
        Guess(21),
        until(fun() -> length(Lines()) =:= 3 end),
        ?assertEqual("megaphone: a connection from 127.0.1.21 was refused: its secret is not that of "
                     "sidecar.secret_file", lists:last(Lines()))
    end).

%% Each reason that a connection may be refused for has its words and its counter.
reasons_test_() ->
    on_node(fun(_Where) ->
        Reasons = [secret, {locked_out, 1}, {no_secret, <<"не там"/utf8>>}, {identity, <<"a\ntext">>}, busy, version,
                   http, garbage, protocol, silent, closed, tls, certificate],
        [ok = megaphone_sidecars:refused(Reason, {192, 0, 2, 1}) || Reason <- Reasons],
        [_ | _] = Lines = begin _ = megaphone_sidecars:status(), megaphone_test:logged("192.0.2.1") end,
        ?assertEqual(length(Reasons), length(lists:usort(Lines))),
        ?assertMatch([_], megaphone_test:logged([1085, 1077, 32, 1090, 1072, 1084])),
        ?assertMatch([_], megaphone_test:logged("a\\ntext")),
        ?assertEqual([{<<"secret">>, 1}, {<<"locked_out">>, 1}, {<<"identity">>, 1}, {<<"protocol">>, 5},
                      {<<"silent">>, 2}, {<<"other">>, 3}], sidecar_test:refusals())
    end).

status_test_() ->
    sidecar_test:with_node(tcp(), fun(Where = {tcp, Port}, _) ->
        Listening = iolist_to_binary(io_lib:format("tcp://127.0.0.1:~b", [Port])),
        ?assertEqual(#{<<"listening">> => Listening, <<"error">> => undefined, <<"epoch">> => 0, <<"connected">> => []},
                     megaphone_sidecars:status()),
        [One, Two] = names([<<"one">>, <<"two">>], Where),
        until_state(One, {active, 1}),
        #{<<"epoch">> := 1, <<"connected">> := [Active, Standby]} = megaphone_sidecars:status(),
        ?assertMatch(#{<<"identity">> := <<"one">>, <<"address">> := <<"127.0.0.1">>, <<"state">> := <<"active">>,
                       <<"seconds">> := Seconds} when Seconds >= 0, Active),
        ?assertMatch(#{<<"identity">> := <<"two">>, <<"state">> := <<"standby">>}, Standby),
        ok = megaphone_sidecars:listening({error, <<"no">>}),
        ?assertMatch(#{<<"listening">> := undefined, <<"error">> := <<"no">>}, megaphone_sidecars:status()),
        [sidecar_standin:stop(Pid) || Pid <- [One, Two]]
    end).

%% In the node's own mode there are none.
no_status_test() ->
    ?assertEqual(undefined, megaphone_sidecars:status()).

%% An HTTP client, a locked address: nothing that has not proved anything is in the status.
not_connected_test_() ->
    on_node(fun(Where) ->
        [Silent] = silent(Where, 1),
        until(fun() -> connections() =:= 1 end),
        ?assertEqual([], sidecar_test:connected()),
        sidecar_standin:close(Silent)
    end).
