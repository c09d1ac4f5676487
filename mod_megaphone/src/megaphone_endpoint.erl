%%% Where sidecars come in: a Unix socket, or an address and a port, with TLS where it is not this
%%% machine's own. Made of the option `sidecar`; what stands in its way is one line for the operator.
-module(megaphone_endpoint).

-export([listen/1, secure/3, address/1, describe/1, close/1]).
-export_type([endpoint/0]).

-include_lib("kernel/include/file.hrl").

%% Bytes of one message of a socket: with megaphone_transport's bound, what a mailbox may hold.
-define(BUFFER, 65536).
-define(BACKLOG, 1024).
%% sun_path of unix(7), without its NUL.
-define(MAX_PATH, 107).
%% st_mode's kind of file, inode(7): to Erlang, a FIFO is `other` as well.
-define(FORMAT, 8#170000).
-define(SOCKET, 8#140000).
%% Milliseconds that somebody who listens on the socket's path already has to take a connection.
-define(PROBE_TIME, 1000).

%% Milliseconds that a sidecar may take no data before it is the active one: who reads nothing is no
%% sidecar that could take over.
-define(SEND_TIME, 1000).

-type endpoint() :: #{listener := gen_tcp:socket(), kind := unix | tcp | tls, name := binary(),
                      file => {Path :: binary(), Inode :: non_neg_integer()},
                      tls => [ssl:tls_server_option()]}.

%% @doc Listens; an error is one line, with what to do.
-spec listen(#{atom() => term()}) -> {ok, endpoint()} | {error, iodata()}.
listen(#{socket := _, port := _}) ->
    {error, "sidecar has both socket and port: give one of them"};
listen(#{socket := Path}) ->
    unix(Path);
listen(Options = #{port := Port}) ->
    Ip = maps:get(ip, Options, {127, 0, 0, 1}),
    case Options of
        #{tls := true} ->
            case tls_options(Options) of
                {ok, Tls} -> inet(tls, Ip, Port, #{tls => Tls});
                {error, _} = Error -> Error
            end;
        _ ->
            case is_loopback(Ip) orelse maps:get(allow_plaintext, Options, false) of
                true ->
                    inet(tcp, Ip, Port, #{});
                false ->
                    {error, io_lib:format("sidecar.ip is ~ts, which others than this machine can reach: "
                                          "set sidecar.tls: true, or sidecar.allow_plaintext: true if "
                                          "the network between is yours alone", [inet:ntoa(Ip)])}
            end
    end;
listen(_) ->
    {error, "sidecar has neither socket nor port: give one of them"}.

%% @doc Makes a connection what the endpoint wants it to be; TimeMs bounds the TLS handshake.
-spec secure(gen_tcp:socket(), endpoint(), pos_integer()) ->
          {ok, megaphone_transport:transport()} | {error, term()}.
secure(Socket, #{tls := Options}, TimeMs) ->
    case ssl:handshake(Socket, Options, TimeMs) of
        {ok, Secured} -> {ok, {tls, Secured}};
        {error, _} = Error -> Error
    end;
secure(Socket, #{kind := Kind}, _TimeMs) ->
    {ok, {Kind, Socket}}.

%% @doc Where a connection comes from.
-spec address(gen_tcp:socket()) -> {ok, megaphone_lockout:address()} | {error, term()}.
address(Socket) ->
    case inet:peername(Socket) of
        {ok, {local, _}} -> {ok, unix};
        {ok, {Ip, _Port}} -> {ok, Ip};
        {error, _} = Error -> Error
    end.

%% @doc An address for people.
-spec describe(megaphone_lockout:address()) -> binary().
describe(unix) -> <<"the Unix socket">>;
describe(Ip) -> list_to_binary(inet:ntoa(Ip)).

%% @doc Listens no more, and removes the socket's file if it is still the one that was made.
-spec close(endpoint()) -> ok.
close(Endpoint = #{listener := Listener}) ->
    _ = gen_tcp:close(Listener),
    case Endpoint of
        #{file := {Path, Inode}} ->
            case file:read_link_info(Path, [raw]) of
                {ok, #file_info{inode = Inode}} -> _ = file:delete(Path, [raw]);
                _ -> ok
            end;
        _ -> ok
    end,
    ok.

%% The path as it is in ejabberd.yml, byte by byte: it may be in any script.
unix(Path) when byte_size(Path) > ?MAX_PATH ->
    {error, io_lib:format("sidecar.socket has ~b bytes, and a Unix socket's path ~b at most: choose a "
                          "shorter one", [byte_size(Path), ?MAX_PATH])};
unix(Path) ->
    case free(Path) of
        ok ->
            case gen_tcp:listen(0, [{ifaddr, {local, Path}} | options()]) of
                {ok, Listener} -> unix(Path, Listener);
                {error, Reason} -> {error, cannot_listen(Path, Reason)}
            end;
        {error, _} = Error ->
            Error
    end.

%% The VM makes it as the umask says, 0755 as a rule, and to connect one must be able to write: until
%% now only ejabberd's own user could.
unix(Path, Listener) ->
    case {file:change_mode(Path, 8#660), file:read_link_info(Path, [raw])} of
        {ok, {ok, #file_info{inode = Inode}}} ->
            {ok, #{listener => Listener, kind => unix, file => {Path, Inode},
                   name => <<"unix:", Path/binary>>}};
        {Changed, _} ->
            _ = gen_tcp:close(Listener),
            {error, cannot_listen(Path, Changed)}
    end.

%% A socket that a node left when it was killed is taken away, and nothing else is.
free(Path) ->
    case file:read_link_info(Path, [raw]) of
        {error, enoent} ->
            ok;
        {ok, #file_info{mode = Mode}} when Mode band ?FORMAT =:= ?SOCKET ->
            case gen_tcp:connect({local, Path}, 0, [local], ?PROBE_TIME) of
                {ok, Socket} ->
                    ok = gen_tcp:close(Socket),
                    {error, [Path, " is in use by another process: give each node a socket of its own"]};
                {error, econnrefused} ->
                    deleted(Path, file:delete(Path, [raw]));
                {error, Reason} ->
                    {error, cannot_listen(Path, Reason)}
            end;
        {ok, #file_info{type = Type}} ->
            {error, io_lib:format("sidecar.socket: ~ts is there and no socket (~ts); it is left as it is: "
                                  "remove it, or choose another path", [Path, kind(Type)])};
        {error, Reason} ->
            {error, cannot_listen(Path, Reason)}
    end.

kind(regular) -> "a file";
kind(symlink) -> "a symbolic link";
kind(Type) -> atom_to_list(Type).

deleted(_Path, ok) -> ok;
deleted(Path, {error, Reason}) -> {error, cannot_listen(Path, Reason)}.

cannot_listen(Path, Reason) ->
    io_lib:format("sidecar.socket: cannot listen at ~ts: ~ts. Its directory must be there and "
                  "ejabberd's user be able to write to it", [Path, text(Reason)]).

inet(Kind, Ip, Port, More) ->
    Family = case tuple_size(Ip) of
                 4 -> inet;
                 8 -> inet6
             end,
    Name = io_lib:format(case Family of
                             inet -> "~ts://~ts:~b";
                             inet6 -> "~ts://[~ts]:~b"
                         end, [Kind, inet:ntoa(Ip), Port]),
    case gen_tcp:listen(Port, [Family, {ip, Ip}, {nodelay, true}, {keepalive, true} | options()]) of
        {ok, Listener} ->
            {ok, More#{listener => Listener, kind => Kind, name => list_to_binary(Name)}};
        {error, Reason} ->
            {error, io_lib:format("cannot listen at ~ts: ~ts. Choose another sidecar.port or "
                                  "sidecar.ip", [Name, text(Reason)])}
    end.

options() ->
    [binary, {packet, raw}, {active, false}, {reuseaddr, true}, {backlog, ?BACKLOG},
     {buffer, ?BUFFER}, {send_timeout, ?SEND_TIME}, {send_timeout_close, true}].

tls_options(Options) ->
    case {application:ensure_all_started(ssl), certificate(Options)} of
        {{ok, _}, {ok, Certificate}} ->
            {ok, [{certfile, Certificate}, {keyfile, Certificate}, {versions, ['tlsv1.2', 'tlsv1.3']},
                  {client_renegotiation, false},
                  %% Who refused whom is told once and counted, by megaphone_sidecars.
                  {log_level, none}
                  | client_certificate(Options)]};
        {{error, _}, _} ->
            {error, "sidecar.tls: Erlang's ssl application cannot be started: install it"};
        {_, {error, _} = Error} ->
            Error
    end.

certificate(#{certfile := File}) ->
    case filelib:is_regular(File) of
        true -> {ok, unicode:characters_to_list(File)};
        false -> {error, ["sidecar.certfile: ", File, " is not there"]}
    end;
certificate(_) ->
    %% Those of ejabberd's own option `certfiles`.
    case [File || Host <- ejabberd_option:hosts(), {ok, File} <- [ejabberd_pkix:get_certfile(Host)]] of
        [File | _] -> {ok, unicode:characters_to_list(File)};
        [] -> {error, "sidecar.tls: there is no certificate: set sidecar.certfile, or ejabberd's certfiles"}
    end.

client_certificate(#{cafile := File}) ->
    [{cacertfile, unicode:characters_to_list(File)}, {verify, verify_peer},
     {fail_if_no_peer_cert, true}];
client_certificate(_) ->
    [].

is_loopback({127, _, _, _}) -> true;
is_loopback({0, 0, 0, 0, 0, 0, 0, 1}) -> true;
is_loopback(_) -> false.

text({error, Reason}) -> text(Reason);
text(Reason) -> inet:format_error(Reason).
