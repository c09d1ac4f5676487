%% A sidecar, as docs/protocol.md has it: the handshake byte by byte, and one that lives (`start/2`),
%% which beats, answers the node's hello with its own, and echoes calls.
-module(sidecar_standin).

-export([connect/1, connect/2, close/1, send/2, message/2, receive_message/1, receive_message/2, left/2]).
-export([claim/1, open/1, opening/1, proof/3, prove/3, join/2, joined/2]).
-export([frame/1, send_frame/2, hello/0]).
-export([start/2, state/1, tell/2, stop/1, epochs/1]).

-define(TIME, 5000).

%% Connections: {unix, Path} | {tcp, Port} | {tls, Port}.

connect(Where) ->
    connect(Where, []).

connect({unix, Path}, Options) ->
    {ok, Socket} = gen_tcp:connect({local, Path}, 0, [local | options()] ++ Options, ?TIME),
    %% The VM takes a full backlog (EAGAIN) for a connection that is on its way.
    case inet:peername(Socket) of
        {ok, _} ->
            {ok, {gen_tcp, Socket}};
        {error, _} ->
            ok = gen_tcp:close(Socket),
            receive after 1 -> connect({unix, Path}, Options) end
    end;
connect({tcp, Port}, Options) ->
    connected(gen_tcp, gen_tcp:connect({127, 0, 0, 1}, Port, options() ++ Options, ?TIME));
connect({tls, Port}, Options) ->
    connected(ssl, ssl:connect({127, 0, 0, 1}, Port,
                               [{verify, verify_none}, {log_level, none} | options()] ++ Options, ?TIME)).

options() ->
    [binary, {active, false}].

connected(Module, {ok, Socket}) -> {ok, {Module, Socket}};
connected(_Module, {error, _} = Error) -> Error.

close({Module, Socket}) -> Module:close(Socket).

send({Module, Socket}, Data) -> Module:send(Socket, Data).

%% What is still there until the node closes, or for Ms milliseconds; how it ended.
left(Connection = {Module, Socket}, Ms) ->
    case Module:recv(Socket, 0, Ms) of
        {ok, Data} ->
            {Rest, How} = left(Connection, Ms),
            {<<Data/binary, Rest/binary>>, How};
        {error, timeout} -> {<<>>, open};
        {error, Reason} -> {<<>>, Reason}
    end.

%% The handshake.

message(Connection, Message) ->
    send(Connection, [<<(iolist_size(Message)):32>>, Message]).

receive_message(Connection) ->
    receive_message(Connection, ?TIME).

receive_message({Module, Socket}, Ms) ->
    case Module:recv(Socket, 4, Ms) of
        {ok, <<Size:32>>} -> Module:recv(Socket, Size, Ms);
        {error, timeout} -> timeout;
        {error, _} -> closed
    end.

%% A whole claim, with what a test does not care about filled in.
claim(Changes) ->
    maps:merge(#{secret => <<"0123456789abcdef0123456789abcdef">>, identity => <<"one">>,
                 instance => crypto:strong_rand_bytes(16), epoch => 0}, Changes).

opening(Nonce) -> <<"megaphone", 1, Nonce/binary>>.

%% Opens; the random numbers of both.
open(Connection) ->
    Mine = crypto:strong_rand_bytes(32),
    _ = message(Connection, opening(Mine)),
    case receive_message(Connection) of
        {ok, <<"megaphone", 1, Theirs:32/binary>>} -> {ok, {Mine, Theirs}};
        Other -> refused(Other)
    end.

%% What a sidecar that has heard these numbers says.
proof(#{secret := Secret, identity := Identity, instance := Instance, epoch := Epoch}, Mine, Theirs) ->
    Claimed = <<Instance/binary, Epoch:64, Identity/binary>>,
    <<(digest(<<"sidecar">>, Secret, Mine, Theirs, Claimed))/binary, Claimed/binary>>.

prove(Connection, {Mine, Theirs}, Claim = #{secret := Secret}) ->
    _ = message(Connection, proof(Claim, Mine, Theirs)),
    case receive_message(Connection) of
        {ok, <<0, Proof:32/binary, Told/binary>>} ->
            Proof = digest(<<"node">>, Secret, Mine, Theirs, Told),
            <<Interval:32, Timeout:32>> = Told,
            {ok, {Interval, Timeout}};
        Other ->
            refused(Other)
    end.

digest(Word, Secret, Mine, Theirs, Told) ->
    crypto:mac(hmac, sha256, Secret,
               <<"megaphone", 1, (byte_size(Word)), Word/binary, Mine/binary, Theirs/binary, Told/binary>>).

refused({ok, <<Code, Text/binary>>}) when Code > 0 -> {refused, Code, Text};
refused(closed) -> closed;
refused(timeout) -> timeout.

%% The whole of it; closes where it is refused.
join(Where, Claim) ->
    {ok, Connection} = connect(Where),
    joined(Connection, Claim).

joined(Connection, Claim) ->
    Opened = case open(Connection) of
                 {ok, Nonces} -> prove(Connection, Nonces, Claim);
                 Refused -> Refused
             end,
    case Opened of
        {ok, Told} ->
            {ok, Connection, Told};
        _ ->
            ok = close(Connection),
            Opened
    end.

%% Frames.

frame(Connection) ->
    case receive_message(Connection) of
        {ok, Payload} -> binary_to_term(Payload);
        Other -> Other
    end.

send_frame(Connection, Term) ->
    message(Connection, term_to_binary(Term)).

hello() ->
    {hello, #{<<"protocol">> => [1], <<"capabilities">> => [<<"calls">>], <<"max_frame">> => 65536,
              <<"credit">> => 131072, <<"version">> => <<"1">>, <<"name">> => <<"port_program">>,
              <<"os_pid">> => 4711}}.

%% One that lives. Beside the claim: `beat`, milliseconds between two heartbeats.

%% Joins, in a process of its own that is linked to the caller; what came of it.
start(Where, Claim) ->
    Self = self(),
    Pid = spawn_link(fun() -> init(Self, Where, claim(Claim)) end),
    receive {Pid, Outcome} -> Outcome after ?TIME -> error(no_outcome) end.

%% standby | {active, Epoch} | closed
state(Pid) -> element(1, request(Pid, state)).

%% Every epoch that it has been active with, oldest first.
epochs(Pid) -> element(2, request(Pid, state)).

%% `mute`: neither heartbeats nor a hello from now on; `close`: closes its connection; {frame, Term}.
tell(Pid, What) -> request(Pid, {tell, What}).

stop(Pid) ->
    Monitor = monitor(process, Pid),
    unlink(Pid),
    exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, _} -> ok end.

request(Pid, Request) ->
    Ref = make_ref(),
    Pid ! {self(), Ref, Request},
    receive {Ref, Answer} -> Answer after ?TIME -> error({no_answer, Request}) end.

init(Starter, Where, Claim) ->
    case join(Where, Claim) of
        {ok, Connection = {Module, Socket}, _} ->
            Starter ! {self(), {ok, self()}},
            self() ! beat,
            ok = case Module of
                     gen_tcp -> inet:setopts(Socket, [{active, true}]);
                     ssl -> ssl:setopts(Socket, [{active, true}])
                 end,
            loop(#{connection => Connection, claim => maps:merge(#{beat => 50, hello => true}, Claim),
                   state => standby, epochs => [], rest => <<>>, muted => false});
        Refused ->
            Starter ! {self(), Refused}
    end.

loop(Data = #{connection := Connection = {_, Socket}, state := State, epochs := Epochs, rest := Rest,
              claim := #{beat := Beat}, muted := Muted}) ->
    receive
        {Tag, Socket, Bytes} when Tag =:= tcp; Tag =:= ssl ->
            loop(frames(Data#{rest := <<Rest/binary, Bytes/binary>>}));
        {Tag, Socket} when Tag =:= tcp_closed; Tag =:= ssl_closed ->
            loop(Data#{state := closed});
        {Tag, Socket, _} when Tag =:= tcp_error; Tag =:= ssl_error ->
            loop(Data#{state := closed});
        beat ->
            _ = [send_frame(Connection, {heartbeat, 0, 0}) || not Muted, State =/= closed],
            _ = erlang:send_after(Beat, self(), beat),
            loop(Data);
        {From, Ref, state} ->
            From ! {Ref, {State, lists:reverse(Epochs)}},
            loop(Data);
        {From, Ref, {tell, mute}} ->
            From ! {Ref, ok},
            loop(Data#{muted := true});
        {From, Ref, {tell, {frame, Term}}} ->
            From ! {Ref, send_frame(Connection, Term)},
            loop(Data);
        {From, Ref, {tell, close}} ->
            ok = close(Connection),
            From ! {Ref, ok},
            loop(Data#{state := closed})
    end.

frames(Data = #{rest := <<Size:32, Payload:Size/binary, Rest/binary>>}) ->
    frames(handle(binary_to_term(Payload), Data#{rest := Rest}));
frames(Data) ->
    Data.

handle({hello, #{<<"epoch">> := Epoch}}, Data = #{connection := Connection, epochs := Epochs, muted := Muted,
                                                  claim := #{hello := Hello}}) ->
    _ = [send_frame(Connection, hello()) || Hello, not Muted],
    Data#{state := {active, Epoch}, epochs := [Epoch | Epochs]};
handle({call, Id, <<"echo">>, Request, _}, Data = #{connection := Connection}) ->
    _ = send_frame(Connection, {replies, [{Id, ok, term_to_binary(Request)}]}),
    Data;
handle(_, Data) ->
    Data.
