%%% JSON (RFC 8259) for the commands: written in pure ASCII, because ejabberdctl prints a result
%%% through whatever locale the node was started with; read with a limit on size and depth.
-module(megaphone_json).

-export([encode/1, decode/1]).
-export_type([value/0, error/0]).

%% Bytes of the longest document that is read: two templates of 64 KiB, every character escaped
%% (`\u00e9`), and the rest of a request.
-define(MAX_SIZE, 1048576).
%% Objects and arrays inside each other.
-define(MAX_DEPTH, 32).
%% Characters of a number: reading one of 100,000 digits takes seconds.
-define(MAX_NUMBER, 64).

-type value() :: #{binary() | atom() => value()} | [value()] | binary() | number() | atom().
-type error() :: too_large | too_deep | invalid.

%% @doc A document. `undefined` and `null` become null, other atoms but true and false strings;
%% what is not UTF-8 in a binary becomes U+FFFD.
-spec encode(value()) -> binary().
encode(Value) ->
    iolist_to_binary(value(Value)).

%% @doc Objects become maps with binary keys, null the atom `null`. Makes no atom.
-spec decode(binary()) -> {ok, value()} | {error, error()}.
decode(Document) when byte_size(Document) > ?MAX_SIZE ->
    {error, too_large};
decode(Document) ->
    case shallow(Document, 0, 0) of
        ok -> parse(Document);
        Error -> {error, Error}
    end.

value(Map) when is_map(Map) ->
    [${, lists:join($,, [[key(Key), $:, value(Value)] || {Key, Value} <- maps:to_list(Map)]), $}];
value(List) when is_list(List) ->
    [$[, lists:join($,, [value(Value) || Value <- List]), $]];
value(Binary) when is_binary(Binary) ->
    string(Binary);
value(Integer) when is_integer(Integer) ->
    integer_to_binary(Integer);
value(Float) when is_float(Float) ->
    float_to_binary(Float, [short]);
value(true) -> <<"true">>;
value(false) -> <<"false">>;
value(undefined) -> <<"null">>;
value(null) -> <<"null">>;
value(Atom) when is_atom(Atom) ->
    string(atom_to_binary(Atom, utf8)).

key(Key) when is_atom(Key) -> string(atom_to_binary(Key, utf8));
key(Key) -> string(Key).

string(Binary) ->
    [$", escape(Binary, []), $"].

escape(<<C, Rest/binary>>, Acc) when C >= $\s, C < 127, C =/= $", C =/= $\\ ->
    escape(Rest, [C | Acc]);
escape(<<$", Rest/binary>>, Acc) ->
    escape(Rest, [<<"\\\"">> | Acc]);
escape(<<$\\, Rest/binary>>, Acc) ->
    escape(Rest, [<<"\\\\">> | Acc]);
escape(<<$\n, Rest/binary>>, Acc) ->
    escape(Rest, [<<"\\n">> | Acc]);
escape(<<C/utf8, Rest/binary>>, Acc) when C < 16#10000 ->
    escape(Rest, [unit(C) | Acc]);
escape(<<C/utf8, Rest/binary>>, Acc) ->
    Offset = C - 16#10000,
    escape(Rest, [[unit(16#D800 bor (Offset bsr 10)), unit(16#DC00 bor (Offset band 16#3FF))] | Acc]);
escape(<<_, Rest/binary>>, Acc) ->
    escape(Rest, [unit(16#FFFD) | Acc]);
escape(<<>>, Acc) ->
    lists:reverse(Acc).

unit(Code) ->
    io_lib:format("\\u~4.16.0b", [Code]).

%% One look before the parser, whose own depth and numbers have no limit.
shallow(<<C, Rest/binary>>, Depth, _) when C =:= ${; C =:= $[ ->
    if Depth < ?MAX_DEPTH -> shallow(Rest, Depth + 1, 0);
       true -> too_deep
    end;
shallow(<<C, Rest/binary>>, Depth, _) when C =:= $}; C =:= $] ->
    shallow(Rest, Depth - 1, 0);
shallow(<<$", Rest/binary>>, Depth, _) ->
    in_string(Rest, Depth);
shallow(<<C, Rest/binary>>, Depth, Digits) when C >= $0, C =< $9; C =:= $. ->
    if Digits < ?MAX_NUMBER -> shallow(Rest, Depth, Digits + 1);
       true -> too_large
    end;
shallow(<<_, Rest/binary>>, Depth, _) ->
    shallow(Rest, Depth, 0);
shallow(<<>>, _, _) ->
    ok.

in_string(<<$\\, _, Rest/binary>>, Depth) -> in_string(Rest, Depth);
in_string(<<$", Rest/binary>>, Depth) -> shallow(Rest, Depth, 0);
in_string(<<_, Rest/binary>>, Depth) -> in_string(Rest, Depth);
in_string(<<>>, _) -> ok.

parse(Document) ->
    %% The parsers raise terms of their own; what they hold is the operator's text.
    try parser(Document) of
        Value -> {ok, Value}
    catch
        _:_ -> {error, invalid}
    end.

%% ejabberd 24.07 and later have misc:json_decode/1, whatever they parse with; those before have
%% jiffy. `apply` because neither is known to every node's compiler.
parser(Document) ->
    _ = code:ensure_loaded(misc),
    case erlang:function_exported(misc, json_decode, 1) of
        true -> apply(misc, json_decode, [Document]);
        false -> apply(jiffy, decode, [Document, [return_maps]])
    end.
