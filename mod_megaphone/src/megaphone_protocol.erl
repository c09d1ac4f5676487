%%% Payloads <-> messages: docs/protocol.md, version 1, as the node speaks it.
-module(megaphone_protocol).

-include("megaphone.hrl").

-export([messages/0, versions/0, hello/1, greet/1]).
-export([decode/1, decode_term/1, decode_answer/2, credited/1, describe/1]).
-export([call_prefix/3, call_frame/2, call_size/1]).
-export_type([message/0, signal/0, signal_kind/0, peer/0, error_kind/0, reason/0]).

-define(VERSIONS, [1]).
-define(CAPABILITIES, [<<"batches">>, <<"calls">>, <<"logs">>, <<"processes">>]).

%% Longest names, in bytes: a peer's name, a call's name, a broadcast's id.
-define(MAX_NAME, 255).
%% What no honest window or grant reaches; keeps the arithmetic in small integers.
-define(MAX_BYTES, (1 bsl 40)).
%% A tuple's last element as INTEGER_EXT: always five bytes, so that a call's size is known
%% before the time that is left to it is.
-define(TIMEOUT_SIZE, 5).

-type error_kind() :: overload | timeout | noproc | nodedown | badarg | refused | crash.
-type batch_failure() :: timeout | memory | too_large | bad_batch | crash.
-type level() :: debug | info | warning | error | critical.
-type message() :: {hello, map()}
                 | {heartbeat, integer(), integer()}
                 | {credit, pos_integer()}
                 | {log, level(), binary(), binary()}
                 | {call, Id :: integer(), Name :: binary(), term(), TimeoutMs :: pos_integer()}
                 | {cast, Name :: binary(), term()}
                 | {replies, [{Id :: integer(), ok | error, binary()}]}
                 | {signals, [signal()]}
                 | {batch_done, binary(), non_neg_integer(), binary()}
                 | {batch_failed, binary(), non_neg_integer(), batch_failure(), binary()}.
%% What a Python process does at the node.
-type signal() :: {Process :: pos_integer(), signal_kind(), Ref :: non_neg_integer(), binary()}.
-type signal_kind() :: reply | refuse | exit | send | cast | exit_signal | link | unlink
                     | monitor | demonitor.
-type peer() :: #{max_frame := pos_integer(), credit := non_neg_integer(),
                  capabilities := [binary()], version := binary(), name := binary(),
                  os_pid := pos_integer() | undefined}.
-type reason() :: compressed | not_a_term | unknown_message.

%% @doc The table of docs/protocol.md: tag, number of elements, who sends, who receives, and
%% whether the frame counts against the receiver's credit.
-spec messages() -> [{Tag :: atom(), Arity :: pos_integer(), From :: [atom()], To :: [atom()],
                      Credit :: boolean()}].
messages() ->
    [{hello, 2, [node, program, worker], [program, node], false},
     {heartbeat, 3, [node, program], [program, node], false},
     {credit, 2, [node, program], [program, node], false},
     {log, 4, [program], [node], true},
     {call, 5, [node, program], [program, node, worker], true},
     {cast, 3, [node, program], [program, node], true},
     {replies, 2, [node, program, worker], [program, node], true},
     {signals, 2, [node, program], [program, node], true},
     {batch, 4, [node], [program, worker], true},
     {batch_done, 4, [worker], [program, node], true},
     {batch_failed, 5, [program, worker], [node], true},
     {batch_cancel, 2, [node], [program], true}].

-spec versions() -> [pos_integer()].
versions() ->
    ?VERSIONS.

%% @doc The node's hello. Times in milliseconds, sizes in bytes.
-spec hello(#{max_frame := pos_integer(), port_window := pos_integer(),
              heartbeat_interval := pos_integer(), heartbeat_timeout := pos_integer(),
              atom() => term()}) -> {hello, #{binary() => term()}}.
hello(#{max_frame := MaxFrame, port_window := Window,
        heartbeat_interval := Interval, heartbeat_timeout := Timeout}) ->
    {hello, #{<<"protocol">> => ?VERSIONS,
              <<"capabilities">> => ?CAPABILITIES,
              <<"max_frame">> => MaxFrame,
              <<"credit">> => Window,
              <<"heartbeat_interval">> => Interval,
              <<"heartbeat_timeout">> => Timeout,
              <<"version">> => ?MEGAPHONE_VERSION,
              <<"name">> => atom_to_binary(node(), utf8)}}.

%% @doc What a hello of the program agrees to, or one line that says why it cannot be talked to.
-spec greet(map()) -> {ok, peer()} | {error, iodata()}.
greet(Map) ->
    Versions = maps:get(<<"protocol">>, Map, []),
    case is_list(Versions) andalso [V || V <- ?VERSIONS, member(V, Versions)] of
        [_ | _] -> greet_v1(Map);
        _ -> {error, io_lib:format("it speaks protocol ~W and this node ~w: upgrade the older "
                                   "of the two (Megaphone ~ts here)",
                                   [Versions, 8, ?VERSIONS, ?MEGAPHONE_VERSION])}
    end.

greet_v1(Map) ->
    MaxFrame = maps:get(<<"max_frame">>, Map, undefined),
    Credit = maps:get(<<"credit">>, Map, undefined),
    Offered = maps:get(<<"capabilities">>, Map, undefined),
    Version = maps:get(<<"version">>, Map, undefined),
    Name = maps:get(<<"name">>, Map, undefined),
    Checks = [{<<"max_frame">>, is_bytes(MaxFrame) andalso MaxFrame >= 1024},
              {<<"credit">>, is_bytes(Credit) andalso is_integer(MaxFrame)
                             andalso Credit >= 2 * MaxFrame},
              {<<"capabilities">>, is_proper(Offered)},
              {<<"version">>, is_name(Version)},
              {<<"name">>, is_name(Name)}],
    case [Key || {Key, false} <- Checks] of
        [] ->
            {ok, #{max_frame => MaxFrame, credit => Credit, version => Version, name => Name,
                   os_pid => os_pid(maps:get(<<"os_pid">>, Map, undefined)),
                   capabilities => [C || C <- ?CAPABILITIES, lists:member(C, Offered)]}};
        [Key | _] ->
            {error, io_lib:format("its hello has no valid ~ts", [Key])}
    end.

%% For the operator only.
os_pid(OsPid) when is_integer(OsPid), OsPid > 0 -> OsPid;
os_pid(_) -> undefined.

%% @doc A payload as a message that the node may receive. Never raises, makes no atom and
%% inflates nothing.
-spec decode(binary()) -> {ok, message()} | {error, reason()}.
decode(Payload) ->
    case decode_term(Payload) of
        {ok, Term} ->
            case valid(Term) of
                true -> {ok, Term};
                false -> {error, unknown_message}
            end;
        {error, _} = Error ->
            Error
    end.

%% @doc One whole term with its version byte; trailing bytes, unknown atoms and compressed
%% terms are errors.
-spec decode_term(binary()) -> {ok, term()} | {error, compressed | not_a_term}.
decode_term(<<131, 80, _/binary>>) ->
    {error, compressed};
decode_term(Binary) ->
    try binary_to_term(Binary, [safe, used]) of
        {Term, Used} when Used =:= byte_size(Binary) -> {ok, Term};
        _ -> {error, not_a_term}
    catch
        error:badarg -> {error, not_a_term}
    end.

%% @doc The answer of a call, decoded where it is wanted: a bad one fails that caller only.
-spec decode_answer(ok | error, binary()) -> {ok, term()} | {error, {error_kind(), binary()}}.
decode_answer(Outcome, Binary) ->
    case {Outcome, decode_term(Binary)} of
        {ok, {ok, Term}} ->
            {ok, Term};
        {error, {ok, {Kind, Text}}} when is_binary(Text) ->
            case is_error_kind(Kind) of
                true -> {error, {Kind, Text}};
                false -> {error, {badarg, <<"the answer is no error of this protocol">>}}
            end;
        _ ->
            {error, {badarg, <<"the answer is no term that this node knows">>}}
    end.

%% @doc Whether the message costs its sender credit.
-spec credited(message()) -> boolean().
credited(Message) ->
    case element(1, Message) of
        hello -> false;
        heartbeat -> false;
        credit -> false;
        _ -> true
    end.

-spec describe(reason()) -> string().
describe(compressed) -> "a compressed term";
describe(not_a_term) -> "no term, or one with atoms that this node does not know";
describe(unknown_message) -> "a term that is no message of this protocol".

%% @doc A call without its length and without the time that is left, encoded by the caller.
-spec call_prefix(pos_integer(), binary(), term()) -> iolist().
call_prefix(Id, Name, Request) ->
    %% {call, Id, Name, Request, 0}: the last element is the two bytes of SMALL_INTEGER_EXT.
    Whole = iolist_to_binary(erlang:term_to_iovec({call, Id, Name, Request, 0})),
    [binary:part(Whole, 0, byte_size(Whole) - 2)].

%% @doc Bytes of the payload that call_frame/2 makes.
-spec call_size(iolist()) -> pos_integer().
call_size(Prefix) ->
    iolist_size(Prefix) + ?TIMEOUT_SIZE.

-spec call_frame(iolist(), pos_integer()) -> iolist().
call_frame(Prefix, TimeoutMs) ->
    Timeout = min(TimeoutMs, 16#7fffffff),
    [megaphone_frame:header(call_size(Prefix)), Prefix, <<98, Timeout:32>>].

valid({hello, Map}) -> is_map(Map);
valid({heartbeat, Seq, Lag}) -> is_integer(Seq) andalso is_number(Lag);
valid({credit, Bytes}) -> is_bytes(Bytes);
valid({log, Level, Source, Text}) ->
    is_level(Level) andalso is_name(Source) andalso is_binary(Text);
valid({call, Id, Name, _Request, Timeout}) ->
    is_integer(Id) andalso is_name(Name) andalso is_integer(Timeout) andalso Timeout > 0;
valid({cast, Name, _Message}) -> is_name(Name);
valid({replies, Replies}) -> are_replies(Replies);
valid({signals, Signals}) -> are_signals(Signals);
valid({batch_done, Broadcast, N, Body}) ->
    is_name(Broadcast) andalso is_count(N) andalso is_binary(Body);
valid({batch_failed, Broadcast, N, Reason, Text}) ->
    is_name(Broadcast) andalso is_count(N) andalso is_batch_failure(Reason) andalso is_binary(Text);
valid(_) -> false.

are_replies([{Id, Outcome, Binary} | Rest]) ->
    is_integer(Id) andalso (Outcome =:= ok orelse Outcome =:= error)
        andalso is_binary(Binary) andalso are_replies(Rest);
are_replies(Rest) ->
    Rest =:= [].

are_signals([{Process, Kind, Ref, Binary} | Rest]) ->
    is_integer(Process) andalso Process > 0 andalso is_signal_kind(Kind)
        andalso is_count(Ref) andalso is_binary(Binary) andalso are_signals(Rest);
are_signals(Rest) ->
    Rest =:= [].

is_bytes(N) -> is_integer(N) andalso N > 0 andalso N =< ?MAX_BYTES.

is_count(N) -> is_integer(N) andalso N >= 0.

is_name(Name) -> is_binary(Name) andalso byte_size(Name) =< ?MAX_NAME.

is_level(Level) -> lists:member(Level, [debug, info, warning, error, critical]).

is_error_kind(Kind) ->
    lists:member(Kind, [overload, timeout, noproc, nodedown, badarg, refused, crash]).

is_signal_kind(Kind) ->
    lists:member(Kind, [reply, refuse, exit, send, cast, exit_signal, link, unlink,
                        monitor, demonitor]).

is_batch_failure(Reason) ->
    lists:member(Reason, [timeout, memory, too_large, bad_batch, crash]).

is_proper(List) -> is_list(List) andalso proper(List).

proper([_ | Tail]) -> proper(Tail);
proper(Tail) -> Tail =:= [].

%% lists:member/2 raises on an improper list, which a peer may well send.
member(Element, [Element | _]) -> true;
member(Element, [_ | Tail]) -> member(Element, Tail);
member(_, _) -> false.
