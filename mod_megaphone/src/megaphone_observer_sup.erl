%%% Who observes the node for its metrics. Nothing else depends on them, and a bug in one of them is to
%%% cost nobody a broadcast or a call: so they have restarts of their own, and many.
-module(megaphone_observer_sup).

-behaviour(supervisor).

-export([start_link/1, init/1]).

-spec start_link(#{atom() => term()}) -> supervisor:startlink_ret().
start_link(Options) ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, Options).

%% @private
-spec init(#{atom() => term()}) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Options) ->
    Flags = #{strategy => one_for_one, intensity => 100, period => 10},
    {ok, {Flags, [#{id => Module, start => {Module, start_link, Arguments}}
                  || {Module, Arguments} <- [{megaphone_heartbeat, [Options]},
                                             {megaphone_overloads, []},
                                             {megaphone_sampler, [Options]}]]}}.
