%%% What Python may reach in the node: the options `allowed_processes` and `allowed_functions`, and
%%% the proxies, which are its own.
-module(megaphone_access).

-export([may_reach/1, function/3, resolve/1, outline/1]).
-export_type([target/0]).

-type target() :: pid() | atom() | {global, term()}.

%% @doc Whether the options or its being a proxy open this target to Python.
-spec may_reach(term()) -> boolean().
may_reach(Target) ->
    is_target(Target)
        andalso case mod_megaphone:option(allowed_processes) of
                    all -> true;
                    Names -> is_listed(Target, Names) orelse is_proxy(resolve(Target))
                end.

is_target(Target) -> is_pid(Target) orelse is_atom(Target) orelse is_global(Target).

is_global({global, _}) -> true;
is_global(_) -> false.

%% A pid by the names that are allowed: whereis/1 waits for nobody, process_info/2 may.
is_listed(Pid, Names) when is_pid(Pid) ->
    lists:any(fun(Name) -> whereis(Name) =:= Pid end, Names);
is_listed({global, Name}, Names) ->
    lists:member(Name, Names);
is_listed(Name, Names) ->
    lists:member(Name, Names).

is_proxy(Pid) -> is_pid(Pid) andalso megaphone_processes:is_proxy(Pid).

%% @doc The process that is meant now. A port is none.
-spec resolve(target()) -> pid() | undefined.
resolve(Pid) when is_pid(Pid) ->
    Pid;
resolve({global, Name}) ->
    global:whereis_name(Name);
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
outline({global, Name}) when is_atom(Name) -> io_lib:format("{global,~0tp}", [Name]);
outline(_) -> "what is no process".
