%% A gen_server without a callback but init.
-module(bare_server).
-behaviour(gen_server).
-compile(nowarn_undefined_callbacks).

-export([init/1]).

init({World, Var, Plan}) ->
    actors:enter(World, Var),
    actors:plan(Plan, undefined).
