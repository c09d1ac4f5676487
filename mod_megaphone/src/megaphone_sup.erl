%%% The tree. Its restarts are for bugs: the death of the port program is none.
-module(megaphone_sup).

-behaviour(supervisor).

-export([start_link/1, init/1]).

%% Milliseconds that megaphone_port has to end the program and its group: more than
%% megaphone_program:ending_time/1 of its grace, less than the keeper gives the tree.
-define(PORT_SHUTDOWN, 8000).

-define(PROXIES_SHUTDOWN, 1000).

-spec start_link(#{atom() => term()}) -> supervisor:startlink_ret().
start_link(Options) ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, Options).

%% @private
-spec init(#{atom() => term()}) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Options) ->
    Flags = #{strategy => rest_for_one, intensity => 3, period => 10},
    {ok, {Flags, [#{id => megaphone_broadcasts,
                    start => {megaphone_broadcasts, start_link, []}},
                  %% Before the port: its end is theirs, with a reason that tells.
                  #{id => megaphone_proxies,
                    start => {megaphone_proxies, start_link, []},
                    type => supervisor, shutdown => ?PROXIES_SHUTDOWN},
                  #{id => megaphone_port,
                    start => {megaphone_port, start_link, [Options]},
                    shutdown => ?PORT_SHUTDOWN},
                  #{id => megaphone_sidecars_sup,
                    start => {megaphone_sidecars_sup, start_link, []},
                    type => supervisor},
                  #{id => megaphone_fanout_sup,
                    start => {megaphone_fanout_sup, start_link, []},
                    type => supervisor},
                  %% Last: nothing depends on it.
                  #{id => megaphone_observer_sup,
                    start => {megaphone_observer_sup, start_link, [Options]},
                    type => supervisor}]}}.
