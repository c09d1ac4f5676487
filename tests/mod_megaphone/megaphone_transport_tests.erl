-module(megaphone_transport_tests).

-include_lib("eunit/include/eunit.hrl").

%% A transport of this process's, whose mailbox is a new one, and the other side of it.
with_transport(Kind, Fun) ->
    {timeout, 30, {spawn,
     fun() ->
             Directory = sidecar_test:directory(),
             {Options, Where} = options(Kind, Directory),
             {ok, Endpoint = #{listener := Listener}} = megaphone_endpoint:listen(Options),
             Self = self(),
             Other = spawn_link(fun() ->
                                        {ok, Connection} = sidecar_standin:connect(Where),
                                        Self ! {self(), Connection},
                                        obey(Connection)
                                end),
             try
                 {ok, Socket} = gen_tcp:accept(Listener, 5000),
                 {ok, Transport} = megaphone_endpoint:secure(Socket, Endpoint, 5000),
                 receive {Other, _} -> ok after 5000 -> error(not_connected) end,
                 Fun(Transport, Other),
                 _ = megaphone_transport:close(Transport),
                 ok = megaphone_transport:drain(Transport)
             after
                 unlink(Other),
                 exit(Other, kill),
                 ok = megaphone_endpoint:close(Endpoint),
                 sidecar_test:remove(Directory)
             end
     end}}.

options(unix, Directory) ->
    Path = filename:join(Directory, <<"s">>),
    {#{socket => Path}, {unix, Path}};
options(tcp, _Directory) ->
    Port = sidecar_test:free_port(),
    {#{port => Port}, {tcp, Port}};
options(tls, Directory) ->
    Port = sidecar_test:free_port(),
    #{certfile := CertFile} = sidecar_test:certificates(Directory),
    {#{port => Port, tls => true, certfile => CertFile}, {tls, Port}}.

%% The other side does what it is told.
obey(Connection) ->
    receive
        {From, Ref, Do} ->
            From ! {Ref, Do(Connection)},
            obey(Connection)
    end.

tell(Other, Do) ->
    Ref = make_ref(),
    Other ! {self(), Ref, Do},
    receive {Ref, Answer} -> Answer after 5000 -> error(no_answer) end.

sends(Other, Data) ->
    ok = tell(Other, fun(Connection) -> sidecar_standin:send(Connection, Data) end).

closes(Other) ->
    ok = tell(Other, fun sidecar_standin:close/1).

%% The next thing that the transport says.
event(Transport) ->
    receive
        Message ->
            case megaphone_transport:event(Message, Transport) of
                none -> event(Transport);
                Event -> Event
            end
    after 5000 -> error(no_event)
    end.

kinds() -> [unix, tcp, tls].

events_test_() ->
    [with_transport(Kind, fun(Transport, Other) ->
         ?assertEqual(Kind, megaphone_transport:kind(Transport)),
         ok = megaphone_transport:activate(Transport),
         sends(Other, <<"one">>),
         ?assertEqual({data, <<"one">>}, event(Transport)),
         ok = megaphone_transport:send(Transport, [<<"two">>, "three"]),
         ?assertEqual({ok, <<"twothree">>}, tell(Other, fun({Module, Socket}) -> Module:recv(Socket, 8, 5000) end)),
         closes(Other),
         ?assertEqual({ended, closed}, event(Transport)),
         megaphone_test:until(fun() -> megaphone_transport:send(Transport, <<"x">>) =:= closed end),
         ?assertMatch({error, _}, megaphone_transport:activate(Transport)),
         ?assertEqual(ok, megaphone_transport:close(Transport)),
         ?assertEqual(ok, megaphone_transport:close(Transport))
     end) || Kind <- kinds()].

%% No more than so many messages before it is activated again.
bounded_test_() ->
    [with_transport(Kind, fun(Transport, Other) ->
         ok = megaphone_transport:activate(Transport),
         _ = spawn_link(fun() -> tell(Other, fun(Connection) -> sidecar_standin:send(Connection, binary:copy(<<"x">>, 8000000)) end) end),
         {16, Bytes} = until_passive(Transport, 0, 0),
         ?assert(Bytes =< 16 * 65536),
         receive Message -> ?assertEqual(none, megaphone_transport:event(Message, Transport)) after 20 -> ok end,
         ok = Activate(Transport),
         ?assertMatch({16, _}, until_passive(Transport, 0, 0))
     end) || Kind <- kinds(), Activate <- [fun megaphone_transport:activate/1, fun megaphone_transport:activate_later/1]].

until_passive(Transport, N, Bytes) ->
    case event(Transport) of
        {data, Data} -> until_passive(Transport, N + 1, Bytes + byte_size(Data));
        passive -> {N, Bytes}
    end.

%% ssl has a process that must answer. Whoever must not wait need not.
activate_later_test_() ->
    with_transport(tls, fun(Transport, Other) ->
        {monitored_by, Ssl} = process_info(self(), monitored_by),
        [true = erlang:suspend_process(Pid) || Pid <- Ssl, is_pid(Pid)],
        ?assertEqual(ok, megaphone_transport:activate_later(Transport)),
        [true = erlang:resume_process(Pid) || Pid <- Ssl, is_pid(Pid)],
        sends(Other, <<"one">>),
        ?assertEqual({data, <<"one">>}, event(Transport))
    end).

%% One that was passive when the other side closed says so when it is activated.
closed_while_passive_test_() ->
    [with_transport(Kind, fun(Transport, Other) ->
         closes(Other),
         ?assertEqual({ended, closed}, case megaphone_transport:activate_later(Transport) of
                                           ok -> event(Transport);
                                           {error, _} -> {ended, closed}
                                       end)
     end) || Kind <- kinds()].

%% Each of them is in a message of its own in the mailbox.
delivered(Sent, Other) ->
    Messages = [begin
                    sends(Other, Data),
                    receive Message -> Message after 5000 -> error({not_delivered, Data}) end
                end || Data <- Sent],
    [self() ! Message || Message <- Messages].

arrived_test_() ->
    [with_transport(Kind, fun(Transport, Other) ->
         ok = megaphone_transport:activate(Transport),
         Sent = [<<N>> || N <- lists:seq(1, 10)],
         delivered(Sent, Other),
         %% One more than there is room for tells that there is more.
         ?assertEqual([<<4>>, <<3>>, <<2>>, <<1>>], megaphone_transport:arrived(Transport, 3, [])),
         ?assertEqual([], megaphone_transport:arrived(Transport, -1, [])),
         ?assertEqual(lists:reverse(lists:nthtail(4, Sent)) ++ [<<0>>],
                      megaphone_transport:arrived(Transport, 1000, [<<0>>])),
         ?assertEqual([], megaphone_transport:arrived(Transport, 1000, []))
     end) || Kind <- kinds()].

%% Whoever closes does not wait for a side that does not read, and nothing is left of the socket.
close_at_once_test_() ->
    [with_transport(Kind, fun(Transport, _Other) ->
         process_flag(trap_exit, true),
         Ports = erlang:ports(),
         Writer = megaphone_writer:start_link(Transport),
         [ok = megaphone_writer:write(Writer, binary:copy(<<"x">>, 1000000), N) || N <- lists:seq(1, 20)],
         %% It waits for room: what there is has taken some.
         Written = fun Written(N) -> receive {megaphone_writer, Writer, _} -> Written(N + 1) after 100 -> N end end,
         ?assert(Written(0) < 20),
         unlink(Writer),
         exit(Writer, kill),
         Began = erlang:monotonic_time(millisecond),
         ok = megaphone_transport:close(Transport),
         ?assert(erlang:monotonic_time(millisecond) - Began < 500),
         megaphone_test:until(fun() -> length(erlang:ports()) < length(Ports) end),
         process_flag(trap_exit, false)
     end) || Kind <- kinds()].

%% What a closed one has said is gone, and nothing else is.
drain_test_() ->
    [with_transport(Kind, fun(Transport = {_, Socket}, Other) ->
         ok = megaphone_transport:activate(Transport),
         delivered([<<N>> || N <- lists:seq(1, 15)], Other),
         closes(Other),
         self() ! receive {_, Socket} = Closed -> Closed after 5000 -> error(not_closed) end,
         self() ! first,
         self() ! {tcp_error, Socket, econnreset},
         self() ! {'EXIT', Socket, normal},
         self() ! {tcp, other, <<"other">>},
         ok = megaphone_transport:close(Transport),
         ok = megaphone_transport:drain(Transport),
         ?assertEqual([first, {tcp, other, <<"other">>}],
                      [receive Message -> Message after 0 -> none end || _ <- [1, 2]]),
         receive More -> ?assertEqual(none, {Kind, More}) after 0 -> ok end
     end) || Kind <- kinds()].

%% A port of the node's own.

port_test() ->
    process_flag(trap_exit, true),
    Port = open_port({spawn_executable, "/bin/cat"}, [binary, stream, exit_status]),
    Transport = {port, Port},
    ?assertEqual(port, megaphone_transport:kind(Transport)),
    ?assertEqual(ok, megaphone_transport:activate(Transport)),
    ?assertEqual(ok, megaphone_transport:activate_later(Transport)),
    ok = megaphone_transport:send(Transport, <<"echo">>),
    ?assertEqual({data, <<"echo">>}, event(Transport)),
    {os_pid, OsPid} = erlang:port_info(Port, os_pid),
    [] = os:cmd("kill -9 " ++ integer_to_list(OsPid)),
    ?assertEqual({ended, {exit_status, 137}}, event(Transport)),
    ?assertEqual({ended, {port, epipe}}, megaphone_transport:event({'EXIT', Port, epipe}, Transport)),
    ?assertEqual(none, megaphone_transport:event({tcp_closed, Port}, {port, self()})),
    ok = megaphone_transport:close(Transport),
    ok = megaphone_transport:drain(Transport),
    ?assertEqual(closed, megaphone_transport:send(Transport, <<"x">>)),
    ?assertEqual(ok, megaphone_transport:close(Transport)),
    process_flag(trap_exit, false).

%% Somebody else's messages are nobody's.
other_sockets_test() ->
    [?assertEqual(none, megaphone_transport:event(Message, {tcp, a}))
     || Message <- [{tcp, b, <<"x">>}, {tcp_closed, b}, {tcp_error, b, x}, {tcp_passive, b}, {b, {data, <<"x">>}},
                    {'EXIT', b, x}, x, {x}, {a, {data, <<"x">>}}]],
    ?assertEqual({ended, {socket, etimedout}}, megaphone_transport:event({tcp_error, a, etimedout}, {tcp, a})),
    ?assertEqual({ended, {socket, x}}, megaphone_transport:event({ssl_error, a, x}, {tls, a})).
