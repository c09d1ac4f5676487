%% A gen_statem whose callbacks do what their events say: {ev, Label, Plan}, or {ev, Label, [{State, Plan}]}.
-module(scripted_statem).
-behaviour(gen_statem).

-export([init/1, callback_mode/0, handle_event/4, a/3, b/3, c/3, terminate/3, code_change/4]).

init({World, Var, Plan}) ->
    actors:enter(World, Var),
    actors:note(init),
    actors:plan(Plan, undefined).

%% {on, mode, Mode} in the plan of init.
callback_mode() -> actors:on(mode, undefined, handle_event_function).

a(Type, Content, Data) -> event(Type, Content, a, Data).
b(Type, Content, Data) -> event(Type, Content, b, Data).
c(Type, Content, Data) -> event(Type, Content, c, Data).

handle_event(Type, Content, State, Data) -> event(Type, Content, State, Data).

event(enter, Old, State, Data) ->
    actors:note({enter, Old, State, Data}),
    actors:on({enter, State}, Data, keep_state_and_data);
event({call, {Pid, _} = From}, {ev, Label, Plan}, State, Data) ->
    actors:keep(From),
    actors:note({{call, Pid}, Label, State, Data}),
    take(Plan, State, Data);
event(Type, {ev, Label, Plan}, State, Data) ->
    actors:note({Type, Label, State, Data}),
    take(Plan, State, Data);
event(Type, Content, State, Data) ->
    actors:note({Type, Content, State, Data}),
    actors:on(info, Data, keep_state_and_data).

take(Plans, State, Data) when is_list(Plans) ->
    take(proplists:get_value(State, Plans, keep_state_and_data), State, Data);
take(Plan, _, Data) -> actors:plan(Plan, Data).

terminate(Reason, State, Data) ->
    actors:note({terminate, Reason, State, Data}),
    actors:on(terminate, Data, ok).

code_change(Old, State, Data, Extra) ->
    actors:note({code_change, Old, State, Data}),
    actors:plan(Extra, Data).
