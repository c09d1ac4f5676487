%%% What a sidecar and the node say to each other before the first frame: who knows the secret?
%%% docs/protocol.md, "Handshake". Pure: bytes to values and back, no I/O.
%%%
%%% Each side proves that it knows the secret by a keyed digest (HMAC-SHA256, RFC 2104) over the
%%% random numbers of both and all that was said. A number is used once, so nothing that was overheard
%%% can be said again; the two proofs begin with different words, so neither can be given back as the
%%% other. The sidecar proves first: who does not know the secret gets nothing to guess against.
%%%
%%% No term of Erlang's is decoded of somebody who has not proved anything.
-module(megaphone_handshake).

-export([new/0, opened/2, proved/3, accept/3, refuse/2, secret/1]).
-export_type([handshake/0, claim/0, refusal/0, secret/0]).

-define(MAGIC, "megaphone").
-define(VERSION, 1).
-define(NONCE, 32).
-define(PROOF, 32).
-define(INSTANCE, 16).
%% Bytes of an identity, and of a secret: shorter ones can be guessed, and nobody needs longer ones.
-define(MAX_IDENTITY, 64).
-define(MIN_SECRET, 32).
-define(MAX_SECRET, 4096).
%% An epoch that a sidecar may have seen. It counts takeovers: no node gets so far.
-define(MAX_EPOCH, 16#ffffffffffff).

-opaque handshake() :: #{nonce := binary(), peer => binary()}.
-type secret() :: binary().
%% Who the sidecar says it is, which of its lives this is, and the highest epoch that it has seen.
-type claim() :: #{identity := binary(), instance := binary(), epoch := non_neg_integer()}.
-type refusal() :: secret | locked_out | no_secret | identity | version | busy.

%% @doc A handshake of its own random number.
-spec new() -> handshake().
new() ->
    #{nonce => crypto:strong_rand_bytes(?NONCE)}.

%% @doc The sidecar's opening; what the node answers.
-spec opened(binary(), handshake()) -> {ok, Challenge :: binary(), handshake()}
                                     | {error, version | garbage}.
opened(<<?MAGIC, ?VERSION, Peer:?NONCE/binary>>, Handshake = #{nonce := Nonce}) ->
    {ok, <<?MAGIC, ?VERSION, Nonce/binary>>, Handshake#{peer => Peer}};
opened(<<?MAGIC, Version, _/binary>>, _Handshake) when Version =/= ?VERSION ->
    {error, version};
opened(_, _Handshake) ->
    {error, garbage}.

%% @doc The sidecar's proof: what it claims, if it knows the secret.
-spec proved(binary(), secret(), handshake()) -> {ok, claim()} | {error, secret | garbage}.
proved(<<Proof:?PROOF/binary, Instance:?INSTANCE/binary, Epoch:64, Identity/binary>>, Secret, Handshake)
  when byte_size(Identity) > 0, byte_size(Identity) =< ?MAX_IDENTITY, Epoch =< ?MAX_EPOCH ->
    Claimed = <<Instance/binary, Epoch:64, Identity/binary>>,
    case crypto:hash_equals(proof(<<"sidecar">>, Claimed, Secret, Handshake), Proof) of
        true ->
            case is_identity(Identity) of
                true -> {ok, #{identity => Identity, instance => Instance, epoch => Epoch}};
                false -> {error, garbage}
            end;
        false -> {error, secret}
    end;
proved(_, _Secret, _Handshake) ->
    {error, garbage}.

%% @doc The node's own proof, and what the sidecar has to know before the first frame. Times in
%% milliseconds.
-spec accept(#{heartbeat_interval := pos_integer(), heartbeat_timeout := pos_integer(), _ => _},
             secret(), handshake()) -> binary().
accept(#{heartbeat_interval := Interval, heartbeat_timeout := Timeout}, Secret, Handshake) ->
    Told = <<Interval:32, Timeout:32>>,
    <<0, (proof(<<"node">>, Told, Secret, Handshake))/binary, Told/binary>>.

%% @doc Why the node does not want it.
-spec refuse(refusal(), iodata()) -> binary().
refuse(Why, Text) ->
    iolist_to_binary([code(Why), Text]).

%% @doc The secret of a file, without the end of its last line.
-spec secret(file:filename_all()) -> {ok, secret()} | {error, binary()}.
secret(File) ->
    case read(File) of
        {ok, Read} ->
            Secret = without_end(Read),
            case byte_size(Secret) of
                Size when Size < ?MIN_SECRET ->
                    no_secret("~ts holds ~b bytes, and a secret has ~b at least: ~ts",
                              [File, Size, ?MIN_SECRET, remedy(File)]);
                Size when Size > ?MAX_SECRET ->
                    no_secret("~ts holds more than ~b bytes", [File, ?MAX_SECRET]);
                _ ->
                    {ok, Secret}
            end;
        {error, enoent} ->
            no_secret("~ts is not there: ~ts", [File, remedy(File)]);
        {error, Reason} ->
            no_secret("~ts cannot be read by ejabberd's user: ~ts", [File, file:format_error(Reason)])
    end.

%% The name of a file may be in any script.
no_secret(Format, Args) ->
    Text = unicode:characters_to_binary(io_lib:format(Format, Args)),
    true = is_binary(Text),
    {error, Text}.

%% Byte by byte: a secret need not be text.
without_end(<<>>) ->
    <<>>;
without_end(Read) ->
    case binary:last(Read) of
        Last when Last =:= $\n; Last =:= $\r -> without_end(binary:part(Read, 0, byte_size(Read) - 1));
        _ -> Read
    end.

%% How a secret is made.
-spec remedy(file:filename_all()) -> iodata().
remedy(File) ->
    io_lib:format("make one with 'openssl rand -hex 32 > ~ts' and give the sidecar the same", [File]).

%% Raw: the file server, which others wait for, has no part in it.
read(File) ->
    case file:open(File, [raw, read, binary]) of
        {ok, Opened} ->
            Read = file:read(Opened, ?MAX_SECRET + 3),
            _ = file:close(Opened),
            case Read of
                eof -> {ok, <<>>};
                _ -> Read
            end;
        {error, _} = Error ->
            Error
    end.

proof(Word, Told, Secret, #{nonce := Nonce, peer := Peer}) ->
    crypto:mac(hmac, sha256, Secret,
               [?MAGIC, ?VERSION, <<(byte_size(Word))>>, Word, Peer, Nonce, Told]).

%% It stands in logs and in the status: printable ASCII without blanks.
is_identity(Identity) ->
    << <<C>> || <<C>> <= Identity, C > $\s, C < 127 >> =:= Identity.

code(secret) -> 1;
code(locked_out) -> 2;
code(no_secret) -> 3;
code(identity) -> 4;
code(version) -> 5;
code(busy) -> 6.
