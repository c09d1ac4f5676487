%% A gen_server without a callback but init.
-module(bare_server).
%% No -behaviour: what is not there is what it is for.

-export([init/1]).

init({World, Var, Plan}) ->
    actors:enter(World, Var),
    actors:plan(Plan, undefined).
