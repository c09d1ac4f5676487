%%% The running broadcasts, a process each. Temporary: a broadcast that fails is told as failed
%%% and is not begun again, which would send it twice.
-module(megaphone_fanout_sup).

-behaviour(supervisor).

-export([start_link/0, start_fanout/1]).
-export([init/1]).

-spec start_link() -> supervisor:startlink_ret().
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

%% @doc The fan-out's init does nothing, so this answers at once.
-spec start_fanout(megaphone_fanout:options()) -> {ok, pid()} | {error, not_running}.
start_fanout(Options) ->
    try supervisor:start_child(?MODULE, [Options]) of
        {ok, Pid} when is_pid(Pid) -> {ok, Pid}
    catch
        %% While the tree is going down.
        exit:_ -> {error, not_running}
    end.

%% @private
-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    {ok, {#{strategy => simple_one_for_one, intensity => 1, period => 5},
          [#{id => megaphone_fanout, start => {megaphone_fanout, start_link, []},
             restart => temporary, shutdown => 5000}]}}.
