%%% What Python may reach in the node and its cluster: the options `allowed_processes`,
%%% `allowed_nodes` and `allowed_functions`, and the proxies, which are its own.
-module(megaphone_access).

-export([may_reach/1, nodes/0, function/3, resolve/1, outline/1, closed_by/1]).
-export_type([target/0, found/0]).

-type target() :: pid() | atom() | {global, term()} | {Name :: atom(), node()}.
%% Nobody has the name; or its node is not connected.
-type found() :: pid() | {Name :: atom(), node()} | undefined | disconnected.

%% @doc Whether the options or its being a proxy open this target to Python.
-spec may_reach(term()) -> boolean().
may_reach(Target) ->
    is_target(Target)
        andalso (is_open_node(node_of(Target)) andalso is_open(Target)
                 orelse is_proxy(resolve(Target))).

%% @doc The connected nodes whose processes the options open to Python, beside this one.
-spec nodes() -> [node()].
nodes() ->
    [Node || Node <- erlang:nodes(), is_open_node(Node)].

is_target({global, _}) -> true;
is_target({Name, Node}) -> is_atom(Name) andalso is_atom(Node);
is_target(Target) -> is_pid(Target) orelse is_atom(Target).

%% A global name is reached wherever its process is.
node_of(Pid) when is_pid(Pid) -> node(Pid);
node_of({global, _}) -> node();
node_of({_, Node}) -> Node;
node_of(_) -> node().

is_open_node(Node) when Node =:= node() ->
    true;
is_open_node(Node) ->
    case mod_megaphone:option(allowed_nodes) of
        all -> true;
        Nodes -> lists:member(Node, Nodes)
    end.

is_open(Target) ->
    case mod_megaphone:option(allowed_processes) of
        all -> true;
        Names -> is_listed(Target, Names)
    end.

%% A pid by the names that are allowed: whereis/1 waits for nobody, process_info/2 may.
is_listed(Pid, Names) when is_pid(Pid) ->
    lists:any(fun(Name) -> whereis(Name) =:= Pid end, Names);
is_listed({global, Name}, Names) ->
    lists:member(Name, Names);
is_listed({Name, _Node}, Names) ->
    lists:member(Name, Names);
is_listed(Name, Names) ->
    lists:member(Name, Names).

is_proxy(Pid) -> is_pid(Pid) andalso megaphone_processes:is_proxy(Pid).

%% @doc The process that is meant now. A port is none. To another node no connection is made for a
%% name: a cluster connects itself.
-spec resolve(target()) -> found().
resolve(Pid) when is_pid(Pid) ->
    Pid;
resolve({global, Name}) ->
    global:whereis_name(Name);
resolve({Name, Node}) when Node =:= node() ->
    resolve(Name);
resolve({_, Node} = Target) ->
    case lists:member(Node, erlang:nodes(connected)) of
        true -> Target;
        false -> disconnected
    end;
resolve(Name) ->
    case whereis(Name) of
        Pid when is_pid(Pid) -> Pid;
        _ -> undefined
    end.

%% @doc The function, if `allowed_functions` names it: its names become atoms only then.
-spec function(term(), term(), term()) -> {ok, module(), atom()} | refused.
function(Module, Function, Args) when is_binary(Module), is_binary(Function) ->
    Name = iolist_to_binary([Module, $:, Function, $/, integer_to_binary(arity(Args))]),
    case lists:member(Name, mod_megaphone:option(allowed_functions)) of
        true -> {ok, binary_to_atom(Module, utf8), binary_to_atom(Function, utf8)};
        false -> refused
    end;
function(_, _, _) ->
    refused.

arity(Args) ->
    try length(Args)
    catch error:badarg -> -1
    end.

%% @doc A target in a line of the log: never more than a name or a pid.
-spec outline(term()) -> iolist().
outline(Pid) when is_pid(Pid) -> pid_to_list(Pid);
outline(Name) when is_atom(Name) -> io_lib:format("~0tp", [Name]);
outline({Name, Node}) when is_atom(Name), is_atom(Node) -> io_lib:format("~0tp", [{Name, Node}]);
outline(_) -> "what is no process".

%% @doc The option that would have to name a target that may not be reached.
-spec closed_by(term()) -> string().
closed_by(Target) ->
    case is_target(Target) andalso not is_open_node(node_of(Target)) of
        true -> "allowed_nodes";
        false -> "allowed_processes"
    end.
