%%% What an operator asks for, as JSON, into what the node works with; or one error that names
%%% the field. Nothing here changes anything.
-module(megaphone_request).

-export([parse/1, refuse/3]).
-export_type([request/0, refusal/0, scope/0]).

-include("xmpp.hrl").

%% Bytes of one template, as docs/protocol.md and the workers have it.
-define(MAX_TEMPLATE, 65536).
%% Bytes of the longest JID: three parts of 1023 (RFC 7622, section 3.1) and the separators.
-define(MAX_JID, 3071).
-define(KEYS, [<<"from">>, <<"subject">>, <<"template">>, <<"to">>, <<"type">>]).

%% Sessions of every host, or of some.
-type scope() :: all | {hosts, [LServer :: binary()]}.
%% Templates: the body's, then the subject's if there is one. `from` undefined: each recipient
%% sees their own host.
-type request() :: #{templates := [binary(), ...],
                     scope := scope(),
                     type := headline | chat | normal,
                     from := undefined | jid:jid()}.
%% The field is undefined where no field is at fault.
-type refusal() :: #{field := binary() | undefined, what := binary(), remedy := binary()}.

%% @doc Checks a request that was decoded from JSON.
-spec parse(term()) -> {ok, request()} | {error, refusal()}.
parse(Request) when is_map(Request) ->
    %% A throw ends the check at the first field at fault.
    try
        ok = known(maps:keys(Request)),
        Body = template(<<"template">>, required(<<"template">>, Request)),
        Subject = case optional(<<"subject">>, Request) of
                      undefined -> [];
                      Text -> [template(<<"subject">>, Text)]
                  end,
        {ok, #{templates => [Body | Subject],
               scope => scope(required(<<"to">>, Request)),
               type => type(optional(<<"type">>, Request)),
               from => from(optional(<<"from">>, Request))}}
    catch
        throw:{refused, Refusal} -> {error, Refusal}
    end;
parse(_) ->
    {error, refuse(<<"request">>, <<"it is no JSON object">>,
                   <<"send an object such as {\"template\": \"Hello {{ user }}\", "
                     "\"to\": \"online\"}">>)}.

-spec refuse(binary() | undefined, iodata(), iodata()) -> refusal().
refuse(Field, What, Remedy) ->
    #{field => Field, what => text(What), remedy => text(Remedy)}.

text(Iodata) ->
    case unicode:characters_to_binary(Iodata) of
        Text when is_binary(Text) -> Text;
        {_, Valid, _} -> Valid
    end.

-spec stop(binary(), iodata(), iodata()) -> no_return().
stop(Field, What, Remedy) ->
    throw({refused, refuse(Field, What, Remedy)}).

known(Keys) ->
    case Keys -- ?KEYS of
        [] -> ok;
        [Key | _] -> stop(text(short(Key)), <<"no such field">>, ["use only ", lists:join(", ", ?KEYS)])
    end.

required(Field, Request) ->
    case Request of
        #{Field := Value} -> string(Field, Value);
        _ -> stop(Field, <<"it is missing">>, <<"add it">>)
    end.

optional(Field, Request) ->
    case Request of
        #{Field := Value} -> string(Field, Value);
        _ -> undefined
    end.

string(_, Value) when is_binary(Value) -> Value;
string(Field, _) -> stop(Field, <<"it is no string">>, <<"give a JSON string">>).

template(Field, <<>>) ->
    stop(Field, <<"it is empty">>, <<"write the text">>);
template(Field, Text) when byte_size(Text) > ?MAX_TEMPLATE ->
    stop(Field, io_lib:format("it has ~b bytes, the limit is ~b", [byte_size(Text), ?MAX_TEMPLATE]),
         <<"shorten it">>);
template(Field, Text) ->
    case sendable(Text, 0) of
        ok -> Text;
        {forbidden, At} ->
            stop(Field, io_lib:format("byte ~b is a character that XML 1.0 forbids", [At]),
                 <<"remove it">>);
        {invalid, At} ->
            stop(Field, io_lib:format("byte ~b is not UTF-8", [At]), <<"convert it to UTF-8">>)
    end.

%% XML 1.0 section 2.2, production Char.
sendable(<<C/utf8, Rest/binary>>, At) ->
    if C >= 16#20, C < 16#FFFE; C > 16#FFFF; C =:= $\t; C =:= $\n; C =:= $\r ->
            sendable(Rest, At + byte_size(<<C/utf8>>));
       true ->
            {forbidden, At}
    end;
sendable(<<>>, _) -> ok;
sendable(_, At) -> {invalid, At}.

scope(<<"online">>) ->
    Hosts = mod_megaphone:hosts(),
    case ejabberd_option:hosts() -- Hosts of
        [] -> all;
        _ -> {hosts, Hosts}
    end;
scope(<<"online@", Host/binary>>) when byte_size(Host) =< ?MAX_JID ->
    LServer = jid:nameprep(Host),
    Served = LServer =/= error andalso lists:member(LServer, ejabberd_option:hosts()),
    case Served andalso lists:member(LServer, mod_megaphone:hosts()) of
        true -> {hosts, [LServer]};
        false when Served ->
            stop(<<"to">>, ["mod_megaphone does not run on ", LServer],
                 <<"add it to the modules of this host in ejabberd.yml, or name another">>);
        false ->
            stop(<<"to">>, [short(Host), " is no virtual host of this node"],
                 <<"give one of those in the option hosts of ejabberd.yml">>)
    end;
scope(Other) ->
    stop(<<"to">>, [short(Other), " is no audience"],
         <<"use online, or online@ and a virtual host">>).

type(undefined) -> headline;
type(<<"headline">>) -> headline;
type(<<"chat">>) -> chat;
type(<<"normal">>) -> normal;
type(Other) ->
    stop(<<"type">>, [short(Other), " is no type of message that can be broadcast"],
         <<"use headline, chat or normal">>).

from(undefined) ->
    undefined;
from(Text) when byte_size(Text) > ?MAX_JID ->
    stop(<<"from">>, <<"it is too long for a JID">>, <<"shorten it">>);
from(Text) ->
    Jid = try jid:decode(Text)
          catch error:{bad_jid, _} ->
                  stop(<<"from">>, [short(Text), " is no JID"],
                       <<"give a JID such as news@example.org">>)
          end,
    %% Answers and bounces go to this address: they must not leave for another server.
    case ejabberd_router:is_my_route(Jid#jid.lserver) of
        true -> Jid;
        false -> stop(<<"from">>, [Jid#jid.lserver, " is not served by this node"],
                      <<"give a JID of one of its own hosts">>)
    end.

%% Enough of a value to find it again.
short(Text) when byte_size(Text) > 100 ->
    [text(binary:part(Text, 0, 100)), "..."];
short(Text) ->
    text(Text).
