%% A gen_fsm whose callbacks do what their events say: {ev, Label, Plan}, or {ev, Label, [{State, Plan}]}.
-module(scripted_fsm).
%% OTP 29 warns of it.
-compile(nowarn_deprecated_callback).
-behaviour(gen_fsm).

-export([init/1, a/2, a/3, b/2, b/3, handle_event/3, handle_sync_event/4, handle_info/3, terminate/3, code_change/4]).

init({World, Var, Plan}) ->
    actors:enter(World, Var),
    actors:note(init),
    actors:plan(Plan, undefined).

a(Event, Data) -> event(event, Event, a, Data).
b(Event, Data) -> event(event, Event, b, Data).
a(Event, From, Data) -> sync(sync_event, Event, From, a, Data).
b(Event, From, Data) -> sync(sync_event, Event, From, b, Data).

handle_event(Event, State, Data) -> event(handle_event, Event, State, Data).
handle_sync_event(Event, From, State, Data) -> sync(handle_sync_event, Event, From, State, Data).

handle_info(Info, State, Data) ->
    actors:note({handle_info, Info, State, Data}),
    actors:on(info, Data, {next_state, State, Data}).

sync(Kind, Event, {Pid, _} = From, State, Data) ->
    actors:keep(From),
    event({Kind, Pid}, Event, State, Data).

event(Kind, {ev, Label, Plan}, State, Data) ->
    actors:note({Kind, Label, State, Data}),
    take(Plan, State, Data);
event(Kind, {timeout, Ref, {ev, Label, Plan}}, State, Data) ->
    actors:note({Kind, {timeout, Ref, Label}, State, Data}),
    take(Plan, State, Data);
event(Kind, Event, State, Data) ->
    actors:note({Kind, Event, State, Data}),
    actors:on(Event, Data, {next_state, State, Data}).

take(Plans, State, Data) when is_list(Plans) ->
    take(proplists:get_value(State, Plans, {next_state, State, Data}), State, Data);
take(Plan, _, Data) -> actors:plan(Plan, Data).

terminate(Reason, State, Data) ->
    actors:note({terminate, Reason, State, Data}),
    actors:on(terminate, Data, ok).

code_change(Old, State, Data, Extra) ->
    actors:note({code_change, Old, State, Data}),
    actors:plan(Extra, Data).
