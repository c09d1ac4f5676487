%% megaphone_port with the option `sidecar`: the test is megaphone_sidecars, and gives it sockets.
-module(megaphone_port_sidecar_tests).

-include_lib("eunit/include/eunit.hrl").

with_port(Fun) -> with_port(#{}, Fun).

with_port(Changes, Fun) ->
    {timeout, 60, {spawn,
     fun() ->
             process_flag(trap_exit, true),
             true = register(megaphone_sidecars, self()),
             Directory = sidecar_test:directory(),
             Options = sidecar_test:options(Directory, Changes),
             #{sidecar := Sidecar} = Options,
             {ok, Endpoint} = megaphone_endpoint:listen(Sidecar),
             try
                 megaphone_test:with_log(
                   fun() ->
                           {ok, Port} = megaphone_port:start_link(Options),
                           try Fun(Endpoint, Options)
                           after sidecar_test:stop(Port)
                           end
                   end)
             after
                 ok = megaphone_endpoint:close(Endpoint),
                 sidecar_test:remove(Directory)
             end
     end}}.

%% A connection that has shown who it is, given to the port, and the sidecar's end of it.
adopt(Endpoint, Epoch) ->
    {Sidecar, Connection} = sidecar(Endpoint, Epoch),
    {megaphone_port:adopt(Sidecar), Connection}.

sidecar(#{listener := Listener, name := <<"unix:", Path/binary>>}, Epoch) ->
    {ok, Connection} = sidecar_standin:connect({unix, Path}),
    {ok, Socket} = gen_tcp:accept(Listener, 5000),
    ok = gen_tcp:controlling_process(Socket, whereis(megaphone_port)),
    {#{transport => {unix, Socket}, inflow => megaphone_inflow:new(8388608), epoch => Epoch, identity => <<"one">>,
       address => <<"the Unix socket">>}, Connection}.

connected(Endpoint, Epoch) ->
    {ok, Connection} = adopt(Endpoint, Epoch),
    {hello, #{<<"epoch">> := Epoch}} = sidecar_standin:frame(Connection),
    ok = sidecar_standin:send_frame(Connection, sidecar_standin:hello()),
    until_state(<<"connected">>),
    Connection.

status(Key) -> maps:get(Key, megaphone_port:status()).

until_state(State) ->
    megaphone_test:until(fun() -> status(<<"state">>) =:= State end).

%% What megaphone_sidecars is told.
released() ->
    receive {'$gen_cast', {released, Epoch}} -> Epoch after 5000 -> none end.

nothing_released() ->
    _ = megaphone_port:status(),
    receive {'$gen_cast', Message} -> error({unexpected, Message}) after 0 -> ok end.

closed(Connection) ->
    {_, closed} = sidecar_standin:left(Connection, 5000),
    sidecar_standin:close(Connection).

waiting_test_() ->
    with_port(fun(_, _) ->
        ?assertEqual(#{<<"state">> => <<"waiting">>, <<"reason">> => undefined, <<"restarts">> => 0,
                       <<"transport">> => undefined, <<"os_pid">> => undefined, <<"connected_seconds">> => undefined,
                       <<"queued_bytes">> => 0, <<"credit_bytes">> => 0, <<"processes">> => 0}, megaphone_port:status()),
        ?assertEqual({error, disconnected}, megaphone_port:call(<<"echo">>, x, 100)),
        ?assertEqual({error, disconnected}, megaphone_port:limits()),
        ?assertEqual({ok, disconnected}, megaphone_port:subscribe(<<"b">>)),
        ?assertEqual({error, disconnected}, megaphone_port:send_batch(<<"b">>, 0, <<"body">>)),
        nothing_released()
    end).

adopt_test_() ->
    with_port(fun(Endpoint, _) ->
        {ok, disconnected} = megaphone_port:subscribe(<<"b">>),
        {ok, Connection} = adopt(Endpoint, 7),
        ?assertEqual(<<"starting">>, status(<<"state">>)),
        {hello, #{<<"epoch">> := 7, <<"credit">> := 8388608, <<"heartbeat_interval">> := 1000}} =
            sidecar_standin:frame(Connection),
        ok = sidecar_standin:send_frame(Connection, sidecar_standin:hello()),
        receive {megaphone_port, How} -> ?assertEqual(connected, How) after 5000 -> error(not_told) end,
        ?assertMatch(#{<<"state">> := <<"connected">>, <<"transport">> := <<"unix">>, <<"os_pid">> := 4711,
                       <<"restarts">> := 0}, megaphone_port:status()),
        ?assertMatch([{info, _}], megaphone_test:logged("the sidecar one, from the Unix socket, is the active one: "
                                                        "version 1, epoch 7")),
        ?assertEqual({ok, #{max_frame => 65536}}, megaphone_port:limits()),
        Self = self(),
        _ = spawn_link(fun() -> Self ! {answer, megaphone_port:call(<<"echo">>, <<"a">>, 5000)} end),
        {call, Id, <<"echo">>, <<"a">>, _} = frame(Connection),
        ok = sidecar_standin:send_frame(Connection, {replies, [{Id, ok, term_to_binary(b)}]}),
        receive {answer, Answer} -> ?assertEqual({ok, b}, Answer) after 5000 -> error(no_answer) end,
        nothing_released(),
        ok = sidecar_standin:close(Connection),
        ?assertEqual(7, released()),
        ?assertMatch(#{<<"state">> := <<"waiting">>, <<"reason">> := <<"it closed the connection">>},
                     megaphone_port:status())
    end).

%% The next one that is no heartbeat.
frame(Connection) ->
    case sidecar_standin:frame(Connection) of
        {heartbeat, _, _} -> frame(Connection);
        Frame -> Frame
    end.

%% It misbehaves, and is cut off.
misbehaviour_test_() ->
    [with_port(fun(Endpoint, _) ->
         {ok, Connection} = adopt(Endpoint, 1),
         {hello, _} = sidecar_standin:frame(Connection),
         _ = [ok = sidecar_standin:send_frame(Connection, sidecar_standin:hello()) || When =:= later],
         _ = sidecar_standin:send(Connection, Bytes),
         ?assertEqual(1, released()),
         ?assertEqual({Reason, true}, {status(<<"reason">>), status(<<"reason">>) =:= Reason}),
         ?assertEqual(<<"waiting">>, status(<<"state">>)),
         {_, How} = sidecar_standin:left(Connection, 5000),
         ?assertNotEqual(open, How),
         ?assertMatch([{warning, _}], megaphone_test:logged("the sidecar one is gone"))
     end)
     || {When, Bytes, Reason} <-
            [{first, bytes({credit, 1}), <<"its first frame is no hello">>},
             {first, bytes({hello, #{}}), <<"it speaks protocol [] and this node [1]: upgrade the older of the two (Megaphone ",
                                            (mod_megaphone:version())/binary, " here)">>},
             {first, <<16#ffffffff:32>>, <<"it sent a frame of 4294967295 bytes where 1 to 65536 are allowed and was cut off">>},
             {later, bytes(sidecar_standin:hello()), <<"it said hello twice">>},
             {later, <<0:32>>, <<"it sent a frame of 0 bytes where 1 to 4194304 are allowed and was cut off">>},
             {later, binary:copy(bytes({heartbeat, 0, 0}), 20000),
              <<"it sent heartbeats or credit without end and was cut off">>}]].

bytes(Term) ->
    Payload = term_to_binary(Term),
    <<(byte_size(Payload)):32, Payload/binary>>.

%% There is one already: the other one is closed, and the first does not notice.
busy_test_() ->
    with_port(fun(Endpoint, _) ->
        First = connected(Endpoint, 1),
        {Answer, Second} = adopt(Endpoint, 2),
        ?assertEqual({error, busy}, Answer),
        closed(Second),
        ?assertEqual(<<"connected">>, status(<<"state">>)),
        nothing_released(),
        ok = sidecar_standin:close(First),
        ?assertEqual(1, released())
    end).

%% It has gone before its turn came.
gone_before_test_() ->
    with_port(fun(Endpoint, _) ->
        {Sidecar = #{transport := {unix, Socket}}, Connection} = sidecar(Endpoint, 1),
        ok = sidecar_standin:close(Connection),
        ok = gen_tcp:close(Socket),
        ?assertEqual({error, disconnected}, megaphone_port:adopt(Sidecar)),
        ?assertEqual(<<"waiting">>, status(<<"state">>)),
        Other = connected(Endpoint, 2),
        sidecar_standin:close(Other)
    end).

release_test_() ->
    with_port(fun(Endpoint, _) ->
        Connection = connected(Endpoint, 5),
        ok = megaphone_port:release(4),
        ok = megaphone_port:release(6),
        nothing_released(),
        ?assertEqual(<<"connected">>, status(<<"state">>)),
        ok = megaphone_port:release(5),
        ?assertEqual(5, released()),
        ?assertEqual(<<"it has connected anew">>, status(<<"reason">>)),
        closed(Connection),
        ok = megaphone_port:release(5),
        nothing_released()
    end).

vacancy_test_() ->
    with_port(fun(Endpoint, _) ->
        ok = megaphone_port:vacancy(),
        ?assertEqual(0, released()),
        Connection = connected(Endpoint, 5),
        ok = megaphone_port:vacancy(),
        nothing_released(),
        ok = sidecar_standin:close(Connection),
        ?assertEqual(5, released()),
        nothing_released(),
        ok = megaphone_port:vacancy(),
        ?assertEqual(5, released())
    end).

%% Where another one stands by, less silence is enough.
silence_test_() ->
    [with_port(#{heartbeat_interval => 100, heartbeat_timeout => 1200}, fun(Endpoint, _) ->
         ok = megaphone_port:standing_by(Standby),
         _ = connected(Endpoint, 1),
         ?assertEqual(1, released()),
         {match, [Ms]} = re:run(status(<<"reason">>), "^it was silent for ([0-9]+) ms and was cut off$",
                                [{capture, all_but_first, list}]),
         ?assertEqual({Standby, true}, {Standby, list_to_integer(Ms) >= Least andalso list_to_integer(Ms) < Most}),
         ?assertMatch([_], megaphone_test:logged(lists:flatten(io_lib:format("cut off; ~b stand by", [Standby]))))
     end) || {Standby, Least, Most} <- [{0, 1200, 5000}, {1, 200, 1200}]].

%% One that works on something may take its time to read: the writer waits, nothing is lost.
does_not_read_test_() ->
    sidecar_test:with_node(#{}, fun(Where, _) ->
        {ok, Connection, _} = sidecar_standin:join(Where, sidecar_standin:claim(#{})),
        {hello, Hello} = sidecar_standin:hello(),
        ok = sidecar_standin:send_frame(Connection, {hello, Hello#{<<"credit">> := 10000000}}),
        until_state(<<"connected">>),
        {ok, connected} = megaphone_port:subscribe(<<"b">>),
        Body = binary:copy(<<"x">>, 60000),
        [ok = megaphone_port:send_batch(<<"b">>, N, Body) || N <- lists:seq(1, 30)],
        [begin
             receive after 500 -> ok end,
             ok = sidecar_standin:send_frame(Connection, {heartbeat, 0, 0})
         end || _ <- lists:seq(1, 3)],
        ?assertEqual(<<"connected">>, status(<<"state">>)),
        ?assert(status(<<"queued_bytes">>) > 500000),
        {hello, _} = frame(Connection),
        [?assertEqual({batch, <<"b">>, N, Body}, frame(Connection)) || N <- lists:seq(1, 30)],
        sidecar_standin:close(Connection)
    end).

%% Stopped, it does not wait for whoever does not read.
stop_test_() ->
    {spawn, with_port(fun(Endpoint, _) ->
        Connection = connected(Endpoint, 1),
        Port = whereis(megaphone_port),
        Began = erlang:monotonic_time(millisecond),
        sidecar_test:stop(Port),
        ?assert(erlang:monotonic_time(millisecond) - Began < 1000),
        {_, How} = sidecar_standin:left(Connection, 5000),
        ?assertNotEqual(open, How)
    end)}.

%% From one mode to the other, without a restart of the owner.
reload_test_() ->
    with_port(fun(Endpoint, Options) ->
        Owner = whereis(megaphone_port),
        Connection = connected(Endpoint, 1),
        ok = megaphone_port:reload(Options#{retry_interval := 50000}),
        ?assertEqual(<<"connected">>, status(<<"state">>)),
        ok = megaphone_port:reload(Options#{sidecar := undefined}),
        ?assertEqual(1, released()),
        closed(Connection),
        until_state(<<"connected">>),
        ?assertEqual(<<"port">>, status(<<"transport">>)),
        ?assertEqual({ok, x}, megaphone_port:call(<<"echo">>, x, 5000)),
        Group = status(<<"os_pid">>),
        {Busy, Second} = adopt(Endpoint, 2),
        ?assertEqual({error, busy}, Busy),
        closed(Second),
        ok = megaphone_port:reload(Options),
        ?assertEqual(<<"waiting">>, status(<<"state">>)),
        megaphone_test:until(fun() -> megaphone_test:group_is_gone(Group) end),
        Third = connected(Endpoint, 3),
        %% The same mode, but what the program depends on is another.
        ok = megaphone_port:reload(Options#{max_frame := 1048576}),
        ?assertEqual(3, released()),
        ?assertEqual(<<"its options changed">>, status(<<"reason">>)),
        closed(Third),
        {ok, Fourth} = adopt(Endpoint, 4),
        ?assertMatch({hello, #{<<"max_frame">> := 1048576}}, sidecar_standin:frame(Fourth)),
        sidecar_standin:close(Fourth),
        ?assertEqual(Owner, whereis(megaphone_port))
    end).

%% While the program is being started, and where it does not stay up.
reload_while_down_test_() ->
    with_port(fun(Endpoint, Options) ->
        Program = Options#{sidecar := undefined, python := <<"/nowhere/python">>, restart_intensity := 1},
        ok = megaphone_port:reload(Program),
        until_state(<<"down">>),
        ok = megaphone_port:reload(Options),
        ?assertEqual(<<"waiting">>, status(<<"state">>)),
        Connection = connected(Endpoint, 1),
        sidecar_standin:close(Connection)
    end).
