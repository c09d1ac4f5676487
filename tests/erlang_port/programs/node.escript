#!/usr/bin/env escript
%%! -noshell
%% A node as far as one port goes: opens the port as mod_megaphone does, says hello, and prints what
%% it received as one base64 line once the program has cast `done`, died, or 20 s have passed.
%% quick    gives credit back at once
%% slow     has little credit to give, and gives it back late
%% strange  sends what is no message as well
%% garbage  sends what is no frame, once the program has asked for its calls
%% closing  closes its end of the pipe then

main([Node, Python, Program | Rest]) ->
    process_flag(trap_exit, true),
    Port = open_port({spawn_executable, Python},
                     [{args, ["-I", "-u", Program | Rest]}, nouse_stdio, exit_status, binary, stream]),
    {os_pid, Pid} = erlang:port_info(Port, os_pid),
    {MaxFrame, Credit} = case Node of
                             "slow" -> {65536, 131072};
                             _ -> {4194304, 8388608}
                         end,
    send(Port, {hello, #{<<"protocol">> => [1], <<"capabilities">> => [<<"calls">>, <<"batches">>, <<"logs">>],
                         <<"max_frame">> => MaxFrame, <<"credit">> => Credit,
                         <<"heartbeat_interval">> => 200, <<"heartbeat_timeout">> => 5000,
                         <<"version">> => <<"0">>, <<"name">> => <<"escript">>}}),
    Deadline = erlang:monotonic_time(millisecond) + 20000,
    {End, Messages} = collect(Node, Port, <<>>, [], 0, Deadline),
    Result = #{pid => Pid, 'end' => End, messages => lists:reverse(Messages)},
    io:format("~ts~n", [base64:encode(term_to_binary(Result))]).

send(Port, Term) ->
    send_payload(Port, term_to_binary(Term)).

send_payload(Port, Payload) ->
    port_command(Port, [<<(byte_size(Payload)):32>>, Payload]).

strange(Port) ->
    send(Port, {whisper, 1}),
    send(Port, #{a => map}),
    send(Port, {batch, not_a_binary, 0, <<>>}),
    send_payload(Port, <<131, 255, "no term">>).

%% Owed is the credit that was not given back yet.
collect(Node, Port, <<Size:32, Payload:Size/binary, Rest/binary>>, Messages, Owed, Deadline) ->
    Now = owe(Node, Port, Owed + Size + 4),
    case binary_to_term(Payload) of
        {cast, <<"done">>, _} = Message -> {done, [Message | Messages]};
        {call, Id, <<"echo">>, Request, _} ->
            send(Port, {replies, [{Id, ok, term_to_binary(Request)}]}),
            collect(Node, Port, Rest, Messages, Now, Deadline);
        {cast, <<"ask">>, _} when Node =:= "garbage" ->
            port_command(Port, <<16#ffffffff:32, "garbage">>),
            collect(Node, Port, Rest, Messages, Now, Deadline);
        {cast, <<"ask">>, _} when Node =:= "closing" ->
            %% A port that is closed tells no exit status.
            {os_pid, Pid} = erlang:port_info(Port, os_pid),
            true = port_close(Port),
            {gone(Pid, Deadline), Messages};
        {cast, <<"ask">>, {N, Size1}} ->
            _ = [strange(Port) || Node =:= "strange"],
            [send(Port, {call, I, <<"echo">>, {I, binary:copy(<<"x">>, Size1)}, 10000}) || I <- lists:seq(1, N)],
            collect(Node, Port, Rest, Messages, Now, Deadline);
        {heartbeat, _, _} -> collect(Node, Port, Rest, Messages, Now, Deadline);
        Message -> collect(Node, Port, Rest, [Message | Messages], Now, Deadline)
    end;
collect(Node, Port, Buffer, Messages, Owed, Deadline) ->
    Wait = max(0, Deadline - erlang:monotonic_time(millisecond)),
    receive
        {Port, {data, Data}} -> collect(Node, Port, <<Buffer/binary, Data/binary>>, Messages, Owed, Deadline);
        {Port, {exit_status, Status}} -> {{exit_status, Status}, Messages};
        {'EXIT', Port, Reason} -> {{exit, Reason}, Messages};
        {give, Bytes} ->
            send(Port, {credit, Bytes}),
            collect(Node, Port, Buffer, Messages, Owed, Deadline)
    after Wait -> {timeout, Messages}
    end.

owe("slow", _Port, Owed) when Owed >= 32768 ->
    erlang:send_after(10, self(), {give, Owed}),
    0;
owe("slow", _Port, Owed) ->
    Owed;
owe(_, Port, Owed) ->
    send(Port, {credit, Owed}),
    0.

gone(Pid, Deadline) ->
    case {filelib:is_dir("/proc/" ++ integer_to_list(Pid)), erlang:monotonic_time(millisecond) < Deadline} of
        {false, _} -> gone;
        {true, true} -> timer:sleep(20), gone(Pid, Deadline);
        {true, false} -> timeout
    end.
