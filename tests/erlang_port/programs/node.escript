#!/usr/bin/env escript
%%! -noshell
%% A node as far as one port goes: opens the port as mod_megaphone does, says hello, and prints what
%% it received as one base64 line once the program has cast `done`, died, or 20 s have passed.

main([Python, Program | Rest]) ->
    process_flag(trap_exit, true),
    Port = open_port({spawn_executable, Python},
                     [{args, ["-I", "-u", Program | Rest]}, nouse_stdio, exit_status, binary, stream]),
    {os_pid, Pid} = erlang:port_info(Port, os_pid),
    send(Port, {hello, #{<<"protocol">> => [1], <<"capabilities">> => [<<"calls">>, <<"batches">>, <<"logs">>],
                         <<"max_frame">> => 4194304, <<"credit">> => 8388608,
                         <<"heartbeat_interval">> => 200, <<"heartbeat_timeout">> => 5000,
                         <<"version">> => <<"0">>, <<"name">> => <<"escript">>}}),
    Deadline = erlang:monotonic_time(millisecond) + 20000,
    {End, Messages} = collect(Port, <<>>, [], Deadline),
    Result = #{pid => Pid, 'end' => End, messages => lists:reverse(Messages)},
    io:format("~ts~n", [base64:encode(term_to_binary(Result))]).

send(Port, Term) ->
    Payload = term_to_binary(Term),
    port_command(Port, [<<(byte_size(Payload)):32>>, Payload]).

collect(Port, <<Size:32, Payload:Size/binary, Rest/binary>>, Messages, Deadline) ->
    send(Port, {credit, Size + 4}),
    case binary_to_term(Payload) of
        {cast, <<"done">>, _} = Message -> {done, [Message | Messages]};
        {call, Id, <<"echo">>, Request, _} ->
            send(Port, {replies, [{Id, ok, term_to_binary(Request)}]}),
            collect(Port, Rest, Messages, Deadline);
        {cast, <<"ask">>, {N, Size1}} ->
            [send(Port, {call, I, <<"echo">>, {I, binary:copy(<<"x">>, Size1)}, 10000}) || I <- lists:seq(1, N)],
            collect(Port, Rest, Messages, Deadline);
        Message -> collect(Port, Rest, [Message | Messages], Deadline)
    end;
collect(Port, Buffer, Messages, Deadline) ->
    Wait = max(0, Deadline - erlang:monotonic_time(millisecond)),
    receive
        {Port, {data, Data}} -> collect(Port, <<Buffer/binary, Data/binary>>, Messages, Deadline);
        {Port, {exit_status, Status}} -> {{exit_status, Status}, Messages};
        {'EXIT', Port, Reason} -> {{exit, Reason}, Messages}
    after Wait -> {timeout, Messages}
    end.
