%%% What carries the bytes between the owner and the program: a port of the node's own, or the
%%% socket of a sidecar. One process owns it and receives its messages; another one writes.
-module(megaphone_transport).

-export([event/2, arrived/3, send/2, activate/1, activate_later/1, close/1, drain/1, kind/1]).
-export_type([transport/0, event/0]).

%% Messages that a socket may deliver before it is looked at again (inet:setopts/2, `active`).
%% Each holds at most the socket's buffer, which megaphone_endpoint sets.
-define(ACTIVE, 16).

-type transport() :: {port, port()} | {unix | tcp, gen_tcp:socket()} | {tls, ssl:sslsocket()}.
-type event() :: {data, binary()} | passive
               | {ended, {exit_status, non_neg_integer()} | {port, term()} | closed | {socket, term()}}.

%% @doc What a message of the owner's mailbox means; `passive`: it is to be activated again.
-spec event(term(), transport()) -> event() | none.
event({Port, {data, Data}}, {port, Port}) -> {data, Data};
event({Port, {exit_status, Status}}, {port, Port}) -> {ended, {exit_status, Status}};
event({'EXIT', Port, Reason}, {port, Port}) -> {ended, {port, Reason}};
event({Tag, Socket, Data}, {_, Socket}) when Tag =:= tcp; Tag =:= ssl -> {data, Data};
event({Tag, Socket}, {_, Socket}) when Tag =:= tcp_passive; Tag =:= ssl_passive -> passive;
event({Tag, Socket}, {_, Socket}) when Tag =:= tcp_closed; Tag =:= ssl_closed -> {ended, closed};
event({Tag, Socket, Reason}, {_, Socket}) when Tag =:= tcp_error; Tag =:= ssl_error ->
    {ended, {socket, Reason}};
event(_, _) -> none.

%% @doc The data that wait in the mailbox, in front of Chunks, newest first; ends when there are
%% more bytes than Room.
-spec arrived(transport(), integer(), [binary()]) -> [binary()].
arrived(Transport = {Kind, Handle}, Room, Chunks) when Room >= 0 ->
    case waiting(Kind, Handle) of
        none -> Chunks;
        Data -> arrived(Transport, Room - byte_size(Data), [Data | Chunks])
    end;
arrived(_Transport, _Room, Chunks) ->
    Chunks.

%% @doc Writes; waits for as long as the other side does not read. `closed` whatever the reason:
%% the owner learns that from the transport.
-spec send(transport(), iodata()) -> ok | closed.
send({port, Port}, Data) ->
    try port_command(Port, Data) of
        true -> ok
    catch
        error:badarg -> closed
    end;
send({tls, Socket}, Data) ->
    sent(ssl:send(Socket, Data));
send({_, Socket}, Data) ->
    sent(gen_tcp:send(Socket, Data)).

sent(ok) -> ok;
sent({error, _}) -> closed.

%% @doc Has a socket deliver some more messages. That it is closed comes as a message, too, but not
%% to one that was passive then.
-spec activate(transport()) -> ok | {error, term()}.
activate({port, _}) -> ok;
activate({tls, Socket}) -> ssl:setopts(Socket, [{active, ?ACTIVE}]);
activate({_, Socket}) -> inet:setopts(Socket, [{active, ?ACTIVE}]).

%% @doc The same for a process that must not wait: with TLS, one of ssl's own has to answer, which may
%% itself be waiting for the other side to read. Where it fails there comes the message of an end.
-spec activate_later(transport()) -> ok | {error, term()}.
activate_later({tls, Socket} = Transport) ->
    Owner = self(),
    _ = spawn(fun() ->
                      case activate(Transport) of
                          ok -> ok;
                          {error, _} -> Owner ! {ssl_closed, Socket}
                      end
              end),
    ok;
activate_later(Transport) ->
    activate(Transport).

%% @doc Closes at once, whatever waits to be written; never blocks.
-spec close(transport()) -> ok.
close({port, Port}) ->
    try port_close(Port) of
        true -> ok
    catch
        error:badarg -> ok
    end;
close({tls, Socket}) ->
    %% It writes a last record, for which a peer that does not read has no room.
    _ = spawn(fun() -> ssl:close(Socket) end),
    ok;
close({_, Socket}) ->
    %% Without it the close waits for what is queued.
    _ = inet:setopts(Socket, [{linger, {true, 0}}]),
    gen_tcp:close(Socket).

%% @doc Drops the messages of a closed transport.
-spec drain(transport()) -> ok.
drain(Transport = {Kind, Handle}) ->
    case waiting(Kind, Handle) of
        none ->
            receive
                {Handle, _} -> drain(Transport);
                {'EXIT', Handle, _} -> drain(Transport);
                {Tag, Handle} when is_atom(Tag) -> drain(Transport);
                {Tag, Handle, _} when Tag =:= tcp_error; Tag =:= ssl_error -> drain(Transport)
            after 0 -> ok
            end;
        _ ->
            drain(Transport)
    end.

-spec kind(transport()) -> port | unix | tcp | tls.
kind({Kind, _}) -> Kind.

waiting(port, Port) ->
    receive {Port, {data, Data}} -> Data
    after 0 -> none
    end;
waiting(tls, Socket) ->
    receive {ssl, Socket, Data} -> Data
    after 0 -> none
    end;
waiting(_, Socket) ->
    receive {tcp, Socket, Data} -> Data
    after 0 -> none
    end.
