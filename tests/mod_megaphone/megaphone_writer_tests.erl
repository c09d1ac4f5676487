-module(megaphone_writer_tests).

-include_lib("eunit/include/eunit.hrl").

written_in_order_test() ->
    Port = open_port({spawn_executable, "/bin/cat"}, [binary, stream]),
    Writer = megaphone_writer:start_link({port, Port}),
    [megaphone_writer:write(Writer, [integer_to_binary(N), <<"\n">>], N) || N <- lists:seq(1, 5)],
    [receive {megaphone_writer, Writer, N} -> ok after 5000 -> error({unwritten, N}) end || N <- lists:seq(1, 5)],
    ?assertEqual(<<"1\n2\n3\n4\n5\n">>, read(Port, <<>>)),
    unlink(Writer),
    exit(Writer, kill),
    port_close(Port).

read(_Port, Read) when byte_size(Read) >= 10 -> Read;
read(Port, Read) ->
    receive {Port, {data, Data}} -> read(Port, <<Read/binary, Data/binary>>) after 5000 -> Read end.

%% A program that does not read blocks the writer and nobody else; the port's end frees it.
busy_port_test() ->
    process_flag(trap_exit, true),
    Port = open_port({spawn_executable, "/bin/sleep"}, [{args, ["1000"]}, binary, stream]),
    {os_pid, OsPid} = erlang:port_info(Port, os_pid),
    Writer = megaphone_writer:start_link({port, Port}),
    [megaphone_writer:write(Writer, binary:copy(<<"x">>, 1000000), N) || N <- lists:seq(1, 20)],
    megaphone_test:until(fun() -> process_info(Writer, status) =:= {status, suspended} end),
    ?assert(is_process_alive(Writer)),
    [] = os:cmd("kill -9 " ++ integer_to_list(OsPid)),
    receive {'EXIT', Writer, normal} -> ok after 5000 -> error(writer_still_there) end,
    receive {'EXIT', Port, _} -> ok after 5000 -> error(port_still_there) end,
    process_flag(trap_exit, false).

%% The same at a socket.
busy_socket_test() ->
    process_flag(trap_exit, true),
    {ok, Listener} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}, binary, {active, false}]),
    {ok, Port} = inet:port(Listener),
    {ok, Other} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}]),
    {ok, Socket} = gen_tcp:accept(Listener),
    Writer = megaphone_writer:start_link({tcp, Socket}),
    megaphone_writer:write(Writer, [<<"first">>, "\n"], 0),
    receive {megaphone_writer, Writer, 0} -> ok after 5000 -> error(unwritten) end,
    ?assertEqual({ok, <<"first\n">>}, gen_tcp:recv(Other, 6, 5000)),
    [megaphone_writer:write(Writer, binary:copy(<<"x">>, 1000000), N) || N <- lists:seq(1, 50)],
    Written = fun Written(N) -> receive {megaphone_writer, Writer, _} -> Written(N + 1) after 200 -> N end end,
    ?assert(Written(0) < 50),
    ?assert(is_process_alive(Writer)),
    ok = gen_tcp:close(Other),
    receive {'EXIT', Writer, normal} -> ok after 5000 -> error(writer_still_there) end,
    ok = gen_tcp:close(Socket),
    ok = gen_tcp:close(Listener),
    process_flag(trap_exit, false).

%% Frames hold message bodies.
nothing_is_shown_test() ->
    Port = open_port({spawn_executable, "/bin/cat"}, [binary, stream]),
    Writer = megaphone_writer:start_link({port, Port}),
    megaphone_writer:write(Writer, <<"first">>, 0),
    receive {megaphone_writer, Writer, 0} -> ok after 5000 -> error(unwritten) end,
    true = erlang:suspend_process(Writer),
    megaphone_writer:write(Writer, <<"secret">>, 1),
    ?assertEqual({messages, []}, process_info(Writer, messages)),
    unlink(Writer),
    exit(Writer, kill),
    port_close(Port).
