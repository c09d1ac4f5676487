#!/usr/bin/env escript
%%! -noshell +S 1:1
%% Runs scenarios with OTP's application and writes what was seen, a base64 line each, to a file. The
%% scenarios, and what is seen of them, are those of application_scenarios.py; application_runs.py
%% does the same. One that ends the VM is the last one that it runs.
%% One scheduler: so what one process sees first, the others do.
-mode(compile).
-export([start/2, start_phase/3, prep_stop/1, stop/1]).
-export([init/1, start_child/1]).

main([File, Encoded]) ->
    logger:set_primary_config(level, none),
    register(collector, spawn(fun() ->
                                      {ok, Output} = file:open(File, [append, raw]),
                                      collect(Output, #{}, #{})
                              end)),
    Scenarios = binary_to_term(base64:decode(Encoded)),
    [run(Scenario) || Scenario <- Scenarios].

run(#{apps := Apps, steps := Steps}) ->
    [step(Step, Apps) || Step <- Steps],
    [application:stop(Name) || {Name, _, _} <- application:which_applications(), is_ours(Name)],
    [application:unload(Name) || {Name, _, _} <- application:loaded_applications(), is_ours(Name)],
    ask({write, over}).

is_ours(Name) -> not lists:member(Name, [kernel, stdlib, compiler]).

%% Steps. What is seen of each: its result, what was called since, which applications run and are loaded.

step({fail, What, Hows}, _) ->
    ask({fail, What, Hows});
step({'end', Name, Reason}, _) ->
    %% The step is over when its application has stopped; one that ends the VM never is.
    Top = ask({top, Name}),
    Top ! {'end', Reason},
    wait(fun() -> not is_process_alive(Top) end),
    wait(fun() -> try not lists:keymember(Name, 1, application:which_applications())
                  catch exit:_ -> false
                  end
         end),
    seen(ok);
step({load, Name}, Apps) ->
    #{Name := Keys} = Apps,
    seen(catch application:load({application, Name, keys(Name, Keys)}));
step({Function, Name}, _) when Function =:= get_all_env ->
    seen(lists:sort(application:get_all_env(Name)));
step(Step, _) ->
    [Function | Arguments] = tuple_to_list(Step),
    seen(try apply(application, Function, Arguments) catch error:Reason -> {raised, Reason} end).

keys(Name, Keys) ->
    Module = [{mod, {?MODULE, {args, Name}}} || not maps:get(library, Keys, false)],
    Phases = [{start_phases, [{Phase, {Name, Args}} || {Phase, Args} <- List]}
              || {ok, List} <- [maps:find(phases, Keys)]],
    Env = [{env, maps:get(env, Keys, [])}],
    [{vsn, "1"}, {modules, []}, {registered, []}, {applications, maps:get(needs, Keys, [])}] ++ Module ++ Phases ++ Env.

running() -> [Name || {Name, _, _} <- application:which_applications(), is_ours(Name)].
loaded() -> lists:sort([Name || {Name, _, _} <- application:loaded_applications(), is_ours(Name)]).

seen(Result) -> ask({write, {seen, named(Result), running(), loaded()}}).

%% What differs by nature: no `.app` file is looked for in Python, and modules have other names there.
named({error, {already_loaded, {application, Name, _}}}) -> {error, {already_loaded, Name}};
named({error, {"no such file or directory", File}}) -> {error, {not_loaded, list_to_atom(filename:rootname(File))}};
named({App, {"no such file or directory", File}}) -> {App, {not_loaded, list_to_atom(filename:rootname(File))}};
named({bad_return, {Call, Value}}) when not is_tuple(Value) -> {bad_return, {named(Call), '#value'}};
named({?MODULE, Function, Arguments}) -> {'#module', Function, Arguments};
named(Pid) when is_pid(Pid) -> '#pid';
named(Tuple) when is_tuple(Tuple) -> list_to_tuple(named(tuple_to_list(Tuple)));
named([Head | Tail]) -> [named(Head) | named(Tail)];
named(Term) -> Term.

wait(Done) ->
    case Done() of
        true -> ok;
        false -> receive after 1 -> wait(Done) end
    end.

%% The callbacks.

start(Type, {args, Name}) ->
    case ask({next, Name}) of
        ok ->
            note({start, Name, Type}),
            started(Name, spawn_link(fun() -> top(Name) end));
        supervisor ->
            note({start, Name, Type}),
            {ok, Pid} = supervisor:start_link(?MODULE, Name),
            {ok, Pid, {state, Name}};
        How ->
            note({failed, Name}),
            fail(How)
    end.

started(Name, Pid) ->
    ask({started, Name, Pid}),
    {ok, Pid, {state, Name}}.

fail({raise, Class, Reason}) -> erlang:Class(Reason);
fail(Result) -> Result.

start_phase(Phase, Type, {Name, Args}) ->
    case ask({next, {Name, Phase}}) of
        ok -> note({start_phase, Name, Phase, Type, Args});
        How -> note({failed, Name, Phase}), fail(How)
    end.

prep_stop({state, Name} = State) ->
    note({prep_stop, Name}),
    case ask({next, {Name, prep_stop}}) of
        ok -> {prepared, State};
        How -> fail(How)
    end.

stop({prepared, {state, Name}}) -> stop(Name, prepared);
stop({state, Name}) -> stop(Name, not_prepared).

stop(Name, How) ->
    note({stop, Name, How}),
    case ask({next, {Name, stop}}) of
        ok -> ok;
        Failure -> fail(Failure)
    end.

top(Name) ->
    process_flag(trap_exit, true),
    receive
        {'EXIT', _, Reason} -> ended(Name, Reason);
        {'end', Reason} -> ended(Name, Reason)
    end.

ended(Name, Reason) ->
    note({ended, Name, Reason}),
    exit(Reason).

%% A supervisor on top, of one child, which may not end.
init(Name) ->
    {ok, {#{intensity => 0}, [#{id => child, start => {?MODULE, start_child, [Name]}}]}}.

start_child(Name) ->
    Pid = spawn_link(fun() -> top(Name) end),
    ask({started, Name, Pid}),
    {ok, Pid}.

%% The collector: what is to fail, and what was seen, which is written down at once: the VM may end.

note(Event) -> ask({write, {called, Event}}).

ask(What) ->
    Reference = make_ref(),
    collector ! {ask, self(), Reference, What},
    receive {Reference, Answer} -> Answer end.

collect(Output, Fails, Tops) ->
    receive
        {ask, From, Reference, What} ->
            {Answer, Fails1, Tops1} = answer(What, Output, Fails, Tops),
            From ! {Reference, Answer},
            collect(Output, Fails1, Tops1)
    end.

answer({fail, What, Hows}, _, Fails, Tops) -> {ok, Fails#{What => Hows}, Tops};
answer({next, What}, _, Fails, Tops) ->
    case Fails of
        #{What := [How | Hows]} -> {How, Fails#{What := Hows}, Tops};
        #{} -> {ok, Fails, Tops}
    end;
answer({started, Name, Pid}, _, Fails, Tops) -> {ok, Fails, Tops#{Name => Pid}};
answer({top, Name}, _, Fails, Tops) -> {maps:get(Name, Tops), Fails, Tops};
answer({write, Term}, Output, Fails, Tops) ->
    ok = file:write(Output, [base64:encode(term_to_binary(Term)), $\n]),
    {ok, Fails, Tops}.
