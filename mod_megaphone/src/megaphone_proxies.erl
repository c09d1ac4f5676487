%%% The proxies of Python processes, a process each. Temporary: the end of one is Python's to
%%% know and to repair.
-module(megaphone_proxies).

-behaviour(supervisor).

-export([start_link/0, start/2]).
-export([init/1]).

-type failure() :: {megaphone_protocol:error_kind(), binary()}.

%% Milliseconds that the tree's end leaves to a proxy, which needs none unless it waits for
%% `global`.
-define(SHUTDOWN, 500).

-spec start_link() -> supervisor:startlink_ret().
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

%% @doc Starts a proxy for a call of the program's, and returns when its names are registered
%% and the owner of the port knows it. The calling process is the call's, and its time is bounded.
-spec start(pos_integer(), [megaphone_names:name()]) -> {ok, pid()} | {error, failure()}.
start(Process, Names) ->
    Ref = make_ref(),
    Options = #{process => Process, names => Names, starter => {self(), Ref}},
    try supervisor:start_child(?MODULE, [Options]) of
        {ok, Pid} when is_pid(Pid) -> started(Pid, Ref)
    catch
        exit:_ -> ending()
    end.

started(Pid, Ref) ->
    Monitor = monitor(process, Pid),
    receive
        {Ref, Result} ->
            true = demonitor(Monitor, [flush]),
            Result;
        {'DOWN', Monitor, process, Pid, _} ->
            ending()
    end.

ending() ->
    {error, {noproc, <<"the node's end of the processes is going down">>}}.

%% @private
-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    {ok, {#{strategy => simple_one_for_one, intensity => 1, period => 5},
          [#{id => megaphone_proxy, start => {megaphone_proxy, start_link, []},
             restart => temporary, shutdown => ?SHUTDOWN}]}}.
