%% A gen_server whose callbacks do what their messages say.
-module(scripted_server).
-behaviour(gen_server).

-export([init/1, handle_call/3, handle_cast/2, handle_info/2, handle_continue/2, terminate/2, code_change/3]).

init({World, Var, Plan}) ->
    actors:enter(World, Var),
    actors:note(init),
    actors:plan(Plan, undefined).

handle_call(Message, {Pid, _} = From, State) ->
    actors:keep(From),
    actors:note({handle_call, Pid, State}),
    actors:plan(Message, State).

handle_cast(Message, State) ->
    actors:note({handle_cast, State}),
    actors:plan(Message, State).

handle_info({do, _, _} = Message, State) ->
    actors:note({handle_info, State}),
    actors:plan(Message, State);
handle_info(timeout, State) ->
    actors:note({handle_info, timeout, State}),
    actors:on(timeout, State, {noreply, State});
handle_info(Info, State) ->
    actors:note({handle_info, Info, State}),
    actors:on(info, State, {noreply, State}).

handle_continue(Content, State) ->
    actors:note({handle_continue, State}),
    actors:plan(Content, State).

terminate(Reason, State) ->
    actors:note({terminate, Reason, State}),
    actors:on(terminate, State, ok).

code_change(Old, State, Extra) ->
    actors:note({code_change, Old, State}),
    actors:plan(Extra, State).
