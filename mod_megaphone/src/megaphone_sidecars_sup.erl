%%% What lets sidecars in; nothing where the node starts the program itself.
-module(megaphone_sidecars_sup).

-behaviour(supervisor).

-export([start_link/0, restart/0, init/1]).

-spec start_link() -> supervisor:startlink_ret() | ignore.
start_link() ->
    case mod_megaphone:option(sidecar) of
        undefined -> ignore;
        _ -> supervisor:start_link({local, ?MODULE}, ?MODULE, [])
    end.

%% @doc Starts it anew with the option as it is now: every sidecar connects again.
-spec restart() -> ok.
restart() ->
    try
        _ = supervisor:terminate_child(megaphone_sup, ?MODULE),
        _ = supervisor:restart_child(megaphone_sup, ?MODULE),
        ok
    catch
        %% The tree has just ended, and reads the option when it is started again.
        exit:_ -> ok
    end.

%% @private
-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    %% All of them: who is connected is known to the first only.
    {ok, {#{strategy => one_for_all, intensity => 3, period => 10},
          [#{id => megaphone_sidecars, start => {megaphone_sidecars, start_link, []}},
           #{id => megaphone_sidecar_sup, start => {megaphone_sidecar_sup, start_link, []},
             type => supervisor},
           #{id => megaphone_listener, start => {megaphone_listener, start_link, []}}]}}.
