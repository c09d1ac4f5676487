%%% ejabberd's commands (ejabberdctl, ReST, XML-RPC). Each takes and gives one string: JSON in
%%% pure ASCII, which no locale on the way can change.
-module(megaphone_commands).

-export([get_commands_spec/0, node_status/0]).
-export([status/0, broadcast/1, broadcast_status/1]).

-include("ejabberd_commands.hrl").
-include("megaphone.hrl").

%% Milliseconds that Python's part of the status may take.
-define(BRIDGE_TIME, 2000).

%% @doc To be registered once for each node: newer releases log an error for a command that exists.
%% 23.01 unregisters only the very record that it keeps, and that one has its definer filled in.
-spec get_commands_spec() -> [ejabberd_commands()].
get_commands_spec() ->
    [#ejabberd_commands{
        name = megaphone_status, tags = [megaphone], definer = mod_megaphone,
        desc = "The node, the port program, its workers and the last broadcasts, as JSON",
        module = ?MODULE, function = status,
        args = [],
        result = {status, string},
        result_desc = "A JSON document"},
     #ejabberd_commands{
        name = megaphone_broadcast, tags = [megaphone], definer = mod_megaphone,
        desc = "Send a message to everybody online, each with a text of its own",
        longdesc = "The request is a JSON object: template (a Jinja template), to (online, or "
                   "online@ and a virtual host); optional: subject (a template), type (headline, "
                   "chat or normal; default headline), from (a JID; default the recipient's host).",
        module = ?MODULE, function = broadcast,
        args = [{request, binary}],
        args_desc = ["A JSON object"],
        args_example = [<<"{\"template\": \"Hello {{ user }}\", \"to\": \"online\"}">>],
        result = {broadcast, string},
        result_desc = "The accepted broadcast with its id, or an object with the key error: "
                      "field, what, remedy; a JSON document"},
     #ejabberd_commands{
        name = megaphone_broadcast_status, tags = [megaphone], definer = mod_megaphone,
        desc = "How far a broadcast is, or how it ended, as JSON",
        module = ?MODULE, function = broadcast_status,
        args = [{id, binary}],
        args_desc = ["The broadcast's id"],
        args_example = [<<"mb6qk0x3v7a1">>],
        result = {broadcast, string},
        result_desc = "A JSON document"}].

%% @doc The whole of docs/protocol.md's status. `bridge` is null while Python does not answer,
%% and `bridge_error` says why.
-spec status() -> string().
status() ->
    Bridge = case megaphone_port:call(<<"bridge">>, status, ?BRIDGE_TIME) of
                 {ok, Answer = #{<<"bridge">> := Map}} when is_map(Map) -> Answer;
                 {ok, _} -> no_bridge(<<"it answers something else than version 1 does">>);
                 {error, {_, Text}} -> no_bridge(Text);
                 {error, Reason} -> no_bridge(atom_to_binary(Reason, utf8))
             end,
    answer(maps:merge(maps:with([<<"bridge">>, <<"bridge_error">>], Bridge), node_status())).

no_bridge(Reason) ->
    #{<<"bridge">> => undefined, <<"bridge_error">> => Reason}.

-spec broadcast(binary()) -> string().
broadcast(Request) ->
    case megaphone_json:decode(Request) of
        {ok, Decoded} ->
            case megaphone_broadcasts:accept(Decoded) of
                {ok, Document} -> answer(Document);
                {error, Refusal} -> refused(Refusal)
            end;
        {error, Reason} ->
            refused(megaphone_request:refuse(<<"request">>, bad_json(Reason),
                                             <<"send a JSON object, in UTF-8">>))
    end.

bad_json(too_large) -> <<"it is too large">>;
bad_json(too_deep) -> <<"it is nested too deeply">>;
bad_json(invalid) -> <<"it is no valid JSON">>.

-spec broadcast_status(binary()) -> string().
broadcast_status(Id) ->
    case megaphone_broadcasts:find(Id) of
        {ok, Document} ->
            answer(Document);
        error ->
            refused(megaphone_request:refuse(
                      <<"id">>, <<"no such broadcast is known to this node">>,
                      <<"megaphone status lists those that are; a restart forgets them">>))
    end.

%% @doc The node's part of the status. Does not ask Python, so Python may ask for it.
-spec node_status() -> #{binary() => term()}.
node_status() ->
    {WallClock, _} = erlang:statistics(wall_clock),
    #{<<"node">> => #{<<"name">> => atom_to_binary(node(), utf8),
                      <<"ejabberd">> => ejabberd_version(),
                      <<"otp">> => list_to_binary(erlang:system_info(otp_release)),
                      <<"version">> => ?MEGAPHONE_VERSION,
                      <<"vhosts">> => mod_megaphone:hosts(),
                      <<"sessions">> => megaphone_audience:sessions(),
                      <<"uptime_seconds">> => WallClock / 1000},
      <<"port">> => megaphone_port:status(),
      <<"sidecars">> => megaphone_sidecars:status(),
      <<"broadcasts">> => megaphone_broadcasts:list()}.

%% The option `version` of ejabberd.yml may say anything.
ejabberd_version() ->
    case application:get_key(ejabberd, vsn) of
        {ok, Version} -> unicode:characters_to_binary(Version);
        undefined -> undefined
    end.

refused(#{field := Field, what := What, remedy := Remedy}) ->
    answer(#{<<"error">> => #{<<"field">> => Field, <<"what">> => What, <<"remedy">> => Remedy}}).

answer(Document) ->
    binary_to_list(megaphone_json:encode(Document)).
