%%% One connection of a sidecar: the handshake, then standing by until it is its turn. Then the socket
%%% goes to megaphone_port, and this process ends.
%%%
%%%     waiting ──socket──▶ handshake ──proof──▶ standing by ──activate──▶ adopted by megaphone_port
%%%
%%% Nobody waits for this process, so it may wait for its peer; for the handshake as a whole no longer
%%% than ?HANDSHAKE_TIME.
-module(megaphone_sidecar).

-behaviour(gen_server).

-export([start_link/1, take/3, activate/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

%% Milliseconds.
-define(HANDSHAKE_TIME, 5000).
%% Bytes of a message of the handshake.
-define(MAX_MESSAGE, 512).
%% What an HTTP client may still say after its first four bytes, in bytes and in milliseconds.
-define(MAX_UNREAD, 65536).
-define(UNREAD_TIME, 1000).
%% What an HTTP client gets: it shows such a text to its user.
-define(HTTP_ANSWER,
        <<"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 57\r\n"
          "Connection: close\r\n\r\nThis port is for Megaphone's sidecars and speaks no HTTP\n">>).

%% What a socket is given to megaphone_port with.
-define(ADOPTED, [{active, false}, {send_timeout, infinity}, {send_timeout_close, false}]).

-record(state, {endpoint :: megaphone_endpoint:endpoint(),
                transport = none :: none | megaphone_transport:transport(),
                address = unix :: megaphone_lockout:address(),
                claim = none :: none | megaphone_handshake:claim(),
                inflow = none :: none | megaphone_inflow:inflow(),
                heard = 0 :: integer(),
                beats = 0 :: non_neg_integer()}).

-type admission() :: ok | {locked, pos_integer()}.

-spec start_link(megaphone_endpoint:endpoint()) -> gen_server:start_ret().
start_link(Endpoint) ->
    gen_server:start_link(?MODULE, Endpoint, []).

%% @doc Gives the process its connection, which it owns already.
-spec take(pid(), gen_tcp:socket(), {megaphone_lockout:address(), admission()}) -> ok.
take(Pid, Socket, Admitted) ->
    gen_server:cast(Pid, {take, Socket, Admitted}).

%% @doc It is this sidecar's turn. The process ends with {shutdown, adopted} once megaphone_port has
%% it, and otherwise when that has not come about.
-spec activate(pid(), pos_integer()) -> ok.
activate(Pid, Epoch) ->
    gen_server:cast(Pid, {activate, Epoch}).

%% @private
-spec init(megaphone_endpoint:endpoint()) -> {ok, #state{}, timeout()}.
init(Endpoint) ->
    %% The secret is at hand: no trace or dump may show it.
    _ = process_flag(sensitive, true),
    {ok, #state{endpoint = Endpoint}, ?HANDSHAKE_TIME}.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call(_Request, _From, State) ->
    {reply, {error, badarg}, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_cast({take, Socket, {Address, Admission}}, State = #state{endpoint = Endpoint, transport = none}) ->
    Deadline = now_ms() + ?HANDSHAKE_TIME,
    case megaphone_endpoint:secure(Socket, Endpoint, ?HANDSHAKE_TIME) of
        {ok, Transport} ->
            Taken = State#state{transport = Transport, address = Address},
            %% A call that fails has its arguments, and the secret with them, in its report.
            case megaphone_log:guarded(fun() -> handshake(Admission, Deadline, Taken) end) of
                {ok, Claim} -> {noreply, stand_by(Taken#state{claim = Claim})};
                {refused, Reason} -> refused(Reason, Taken)
            end;
        {error, Reason} ->
            refused(case Reason of
                        {options, _} -> certificate;
                        _ -> tls
                    end, State#state{transport = {tcp, Socket}, address = Address})
    end;
handle_cast({activate, Epoch}, State = #state{transport = Transport, inflow = Inflow})
  when Inflow =/= none ->
    case taken_in(Transport, Inflow) of
        {ok, Rest} -> hand_over(Epoch, State#state{inflow = Rest});
        {error, _} -> {stop, {shutdown, lost}, State}
    end;
handle_cast(_Message, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info(timeout, State = #state{transport = none}) ->
    {stop, {shutdown, lost}, State};
handle_info(beat, State) ->
    beat(State);
handle_info(Info, State = #state{transport = Transport, inflow = Inflow})
  when Transport =/= none, Inflow =/= none ->
    case megaphone_transport:event(Info, Transport) of
        {data, Data} -> data(Data, State);
        passive ->
            case megaphone_transport:activate(Transport) of
                ok -> {noreply, State};
                {error, _} -> {stop, {shutdown, lost}, State}
            end;
        {ended, _} -> {stop, {shutdown, lost}, State};
        none -> {noreply, State}
    end;
handle_info(_Message, State) ->
    {noreply, State}.

%% @private A socket closes with its owner; one of TLS says so first.
-spec terminate(term(), #state{}) -> ok.
terminate({shutdown, adopted}, _State) -> ok;
terminate(_Reason, #state{transport = {tls, _} = Transport}) -> megaphone_transport:close(Transport);
terminate(_Reason, _State) -> ok.

%% The handshake.

handshake(Admission, Deadline, State = #state{transport = Transport}) ->
    New = megaphone_handshake:new(),
    case receive_message(Transport, Deadline) of
        {ok, Opening} ->
            case {megaphone_handshake:opened(Opening, New), Admission} of
                {{error, Reason}, _} -> {refused, Reason};
                {_, {locked, Ms}} -> {refused, {locked_out, Ms}};
                {{ok, Challenge, Opened}, ok} ->
                    ok = send_message(Transport, Challenge),
                    prove(Deadline, Opened, State)
            end;
        {error, Reason} ->
            {refused, Reason}
    end.

prove(Deadline, Opened, State = #state{transport = Transport}) ->
    case {receive_message(Transport, Deadline), secret()} of
        {{ok, Proof}, {ok, Secret}} ->
            case megaphone_handshake:proved(Proof, Secret, Opened) of
                {ok, Claim} -> join(Claim, Secret, Opened, State);
                {error, Reason} -> {refused, Reason}
            end;
        {{error, Reason}, _} -> {refused, Reason};
        {_, {error, Text}} -> {refused, {no_secret, Text}}
    end.

join(Claim, Secret, Opened, #state{transport = Transport, address = Address}) ->
    case megaphone_sidecars:join(Claim, Address) of
        ok ->
            Options = maps:from_list([{Name, mod_megaphone:option(Name)}
                                      || Name <- [heartbeat_interval, heartbeat_timeout]]),
            ok = send_message(Transport, megaphone_handshake:accept(Options, Secret, Opened)),
            {ok, Claim};
        {refused, Reason} ->
            {refused, Reason}
    end.

%% Read each time: it may be changed at any time, and nobody reloads anything for that.
secret() ->
    case mod_megaphone:option(sidecar) of
        #{secret_file := File} -> megaphone_handshake:secret(File);
        _ -> {error, "the option sidecar is gone"}
    end.

refused(Reason, State = #state{transport = Transport, address = Address}) ->
    ok = megaphone_sidecars:refused(Reason, Address),
    case answer(Reason) of
        none -> ok;
        {raw, Answer} ->
            _ = megaphone_transport:send(Transport, Answer),
            _ = shutdown(Transport),
            left_unread(Transport, ?MAX_UNREAD, now_ms() + ?UNREAD_TIME);
        {Why, Text} -> ok = send_message(Transport, megaphone_handshake:refuse(Why, Text))
    end,
    {stop, {shutdown, refused}, State}.

%% What it still says is read: a socket that is closed with bytes unread resets the connection, and the
%% answer may be lost.
left_unread(Transport, Room, Deadline) when Room > 0 ->
    case receive_bytes(Transport, 0, Deadline) of
        {ok, Bytes} -> left_unread(Transport, Room - byte_size(Bytes), Deadline);
        {error, _} -> ok
    end;
left_unread(_Transport, _Room, _Deadline) ->
    ok.

shutdown({tls, Socket}) -> ssl:shutdown(Socket, write);
shutdown({_, Socket}) -> gen_tcp:shutdown(Socket, write).

answer(secret) -> {secret, "the secrets of the node and of the sidecar differ"};
answer({locked_out, Ms}) ->
    {locked_out, io_lib:format("too many wrong secrets came from this address: try again in ~b s",
                               [(Ms + 999) div 1000])};
%% No word of the file: this one has not proved anything.
answer({no_secret, _}) -> {no_secret, "the node has no secret: its log says why"};
answer({identity, Text}) -> {identity, Text};
answer(busy) -> {busy, "as many sidecars stand by as may"};
answer(version) -> {version, "the node speaks version 1 of the handshake: upgrade the older of the two"};
answer(http) -> {raw, ?HTTP_ANSWER};
answer(_) -> none.

receive_message(Transport, Deadline) ->
    case receive_bytes(Transport, 4, Deadline) of
        {ok, <<Size:32>>} when Size > 0, Size =< ?MAX_MESSAGE -> receive_bytes(Transport, Size, Deadline);
        {ok, <<Method:4/binary>>} -> {error, other_protocol(Method)};
        {error, _} = Error -> Error
    end.

other_protocol(Method) when Method =:= <<"GET ">>; Method =:= <<"HEAD">>; Method =:= <<"POST">>;
                            Method =:= <<"PUT ">>; Method =:= <<"OPTI">>; Method =:= <<"PRI ">> -> http;
other_protocol(_) -> garbage.

receive_bytes({tls, Socket}, Size, Deadline) -> received(ssl:recv(Socket, Size, left(Deadline)));
receive_bytes({_, Socket}, Size, Deadline) -> received(gen_tcp:recv(Socket, Size, left(Deadline))).

received({ok, Bytes}) -> {ok, Bytes};
received({error, timeout}) -> {error, silent};
received({error, _}) -> {error, closed}.

left(Deadline) -> max(0, Deadline - now_ms()).

send_message(Transport, Message) ->
    _ = megaphone_transport:send(Transport, [megaphone_frame:header(byte_size(Message)), Message]),
    ok.

%% Standing by.

stand_by(State = #state{transport = Transport}) ->
    _ = megaphone_transport:activate(Transport),
    self() ! beat,
    State#state{heard = now_ms(), inflow = megaphone_inflow:new(mod_megaphone:option(port_window))}.

%% Both say that they live: who is asked to take over must be there.
beat(State = #state{transport = Transport, inflow = Inflow, heard = Heard, beats = Beats}) ->
    Now = now_ms(),
    Interval = mod_megaphone:option(heartbeat_interval),
    case Now - Heard > mod_megaphone:option(heartbeat_timeout) of
        true ->
            {stop, {shutdown, silent}, State};
        false ->
            _ = erlang:send_after(Interval, self(), beat),
            {Frame, _} = megaphone_frame:encode({heartbeat, Beats, 0}),
            case megaphone_transport:send(Transport, Frame) of
                ok -> {noreply, State#state{beats = Beats + 1, inflow = megaphone_inflow:tick(Inflow)}};
                closed -> {stop, {shutdown, lost}, State}
            end
    end.

data(Data, State = #state{inflow = Inflow}) ->
    case megaphone_inflow:data(Data, Inflow) of
        {ok, Taken} ->
            case heartbeats(Taken) of
                {ok, Rest} -> {noreply, State#state{inflow = Rest, heard = now_ms()}};
                error -> refused(protocol, State)
            end;
        {violation, _} ->
            refused(protocol, State)
    end.

%% Whoever stands by has nothing else to say.
heartbeats(Inflow) ->
    case megaphone_inflow:next(Inflow) of
        {more, Rest} -> {ok, Rest};
        {message, {heartbeat, _, _}, Rest} -> heartbeats(Rest);
        _ -> error
    end.

%% Its turn.

taken_in(Transport, Inflow) ->
    case passive(Transport) of
        ok ->
            Waiting = megaphone_transport:arrived(Transport, megaphone_inflow:allowed(Inflow), []),
            case megaphone_inflow:data(iolist_to_binary(lists:reverse(Waiting)), Inflow) of
                {ok, Taken} -> heartbeats(Taken);
                {violation, Reason} -> {error, Reason}
            end;
        {error, _} = Error ->
            Error
    end.

%% From now on a process of its own waits for it to read, and megaphone_port looks whether it lives.
passive({tls, Socket}) -> ssl:setopts(Socket, ?ADOPTED);
passive({_, Socket}) -> inet:setopts(Socket, ?ADOPTED).

hand_over(Epoch, State = #state{transport = Transport, inflow = Inflow, claim = #{identity := Identity},
                                address = Address}) ->
    Port = whereis(megaphone_port),
    case is_pid(Port) andalso give(Transport, Port) of
        ok ->
            Sidecar = #{transport => Transport, inflow => Inflow, epoch => Epoch, identity => Identity,
                        address => megaphone_endpoint:describe(Address)},
            {stop, {shutdown, case megaphone_port:adopt(Sidecar) of
                                  ok -> adopted;
                                  {error, Reason} -> Reason
                              end}, State};
        _ ->
            {stop, {shutdown, lost}, State}
    end.

give({tls, Socket}, Pid) -> ssl:controlling_process(Socket, Pid);
give({_, Socket}, Pid) -> gen_tcp:controlling_process(Socket, Pid).

now_ms() ->
    erlang:monotonic_time(millisecond).
