%%% The connections of sidecars. One that ends is not started again: the sidecar connects anew.
-module(megaphone_sidecar_sup).

-behaviour(supervisor).

-export([start_link/0, start_child/1, init/1]).

-define(SHUTDOWN, 1000).

-spec start_link() -> supervisor:startlink_ret().
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

-spec start_child(megaphone_endpoint:endpoint()) -> supervisor:startchild_ret().
start_child(Endpoint) ->
    supervisor:start_child(?MODULE, [Endpoint]).

%% @private
-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    {ok, {#{strategy => simple_one_for_one, intensity => 0, period => 1},
          [#{id => megaphone_sidecar, start => {megaphone_sidecar, start_link, []},
             restart => temporary, shutdown => ?SHUTDOWN}]}}.
