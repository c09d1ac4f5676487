%% Plays a scenario: actors that take steps, and servers whose callbacks do what their messages say.
%% Each actor and each server has its own trace, for between two of them no order is promised.
%% actors.py is the same for Python; README.md says what there is.
-module(actors).

%% gen_fsm is deprecated, and is what its other door is compared with.
-compile(nowarn_deprecated_function).

-export([play/2, enter/2, note/1, plan/2, keep/1, on/3]).

-define(WAIT, 3000).
%% How long a message that should not come has to come.
-define(NOTHING, 30).

play(Api, Steps) ->
    World = ets:new(world, [public]),
    {Main, Monitor} = spawn_monitor(fun() -> enter({Api, World}, main), steps(Steps) end),
    receive
        {'DOWN', Monitor, process, Main, Reason} -> add(World, main, {ended, Reason})
    after 10000 -> exit(Main, kill), add(World, main, stuck)
    end,
    [end_of(Pid) || {{who, Pid}, _} <- ets:tab2list(World), is_pid(Pid)],
    Events = lists:sort([{N, Actor, Event} || {{event, N}, Actor, Event} <- ets:tab2list(World)]),
    Traces = lists:foldl(fun({_, Actor, Event}, Traces) ->
                             maps:update_with(Actor, fun(T) -> [normal(Event, World) | T] end,
                                              [normal(Event, World)], Traces)
                         end, #{}, Events),
    maps:map(fun(_, Trace) -> lists:reverse(Trace) end, Traces).

end_of(Pid) ->
    Monitor = monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Monitor, _, _, _} -> ok end.

%% What happens in this process belongs to this actor from now on.
enter(World, Actor) ->
    put(world, World),
    put(actor, Actor),
    bind(Actor, self()).

note(Event) ->
    {_, World} = get(world),
    add(World, get(actor), Event).

add(World, Actor, Event) ->
    ets:insert(World, {{event, erlang:unique_integer([monotonic])}, Actor, Event}).

bind(Name, Value) ->
    {_, World} = get(world),
    ets:insert(World, [{{bound, Name}, Value}, {{who, Value}, Name}]).

%% {the, Name} anywhere in a term is what the name is bound to, if it is.
the(Term) ->
    {_, World} = get(world),
    the(Term, World).

the({the, Name} = Term, World) ->
    case ets:lookup(World, {bound, Name}) of
        [{_, Value}] -> Value;
        [] -> Term
    end;
%% So many milliseconds from now, as a point in time.
the({in_ms, Milliseconds}, _) -> erlang:monotonic_time(millisecond) + Milliseconds;
the(Term, World) when is_tuple(Term) -> list_to_tuple([the(E, World) || E <- tuple_to_list(Term)]);
the([H | T], World) -> [the(H, World) | the(T, World)];
the(Term, _) -> Term.

server(Name) ->
    {_, World} = get(world),
    case ets:lookup(World, {bound, Name}) of
        [{_, Pid}] when is_pid(Pid) -> Pid;
        _ -> Name
    end.

%% Callbacks.

keep(From) -> put(from, From), bind(from, From).

%% What a callback that has no plan in its message is to do.
on(What, State, Default) ->
    case get({on, What}) of
        undefined -> Default;
        Plan -> plan(Plan, State)
    end.

%% Does {do, Steps, Result}; `same` in the result is the state.
plan({do, Steps, Result}, State) ->
    steps(Steps),
    case Result of
        {raise, exit, Reason} -> exit(the(Reason));
        {raise, error, Reason} -> error(the(Reason));
        _ -> same(the(Result), State)
    end;
plan(Result, State) -> plan({do, [], Result}, State).

same(Result, State) when is_tuple(Result) ->
    list_to_tuple([case E of same -> State; _ -> E end || E <- tuple_to_list(Result)]);
same(Result, _) -> Result.

%% Steps.

steps(Steps) -> [step(Step) || Step <- Steps].

step({start, Var, Init}) -> start(start, Var, Init, []);
step({start, Var, Init, Options}) -> start(start, Var, Init, Options);
step({start_link, Var, Init}) -> start(start_link, Var, Init, []);
step({start_link, Var, Init, Options}) -> start(start_link, Var, Init, Options);
step({spawn, Var, Steps}) ->
    World = get(world),
    bind(Var, spawn(fun() -> enter(World, Var), steps(Steps) end));
step({spawn_link, Var, Steps}) ->
    World = get(world),
    bind(Var, spawn_link(fun() -> enter(World, Var), steps(Steps) end));
step({call, S, Message}) -> ask(call, fun(Api) -> Api:call(server(S), the(Message)) end);
step({call, S, Message, Timeout}) -> ask(call, fun(Api) -> Api:call(server(S), the(Message), Timeout) end);
step({cast, S, Message}) -> api(cast, [server(S), the(Message)]);
step({send, S, Message}) -> server(S) ! the(Message);
step({request, Var, S, Message}) -> bind(Var, api(send_request, [server(S), the(Message)]));
step({response, Var, Timeout}) -> note({response, api(receive_response, [the({the, Var}), Timeout])});
step({reply, From, Value}) -> api(reply, [the({the, From}), the(Value)]);
step({stop, S}) -> ask(stop, fun(Api) -> Api:stop(server(S)) end);
step({stop, S, Reason, Timeout}) -> ask(stop, fun(Api) -> Api:stop(server(S), the(Reason), Timeout) end);
step({sys, F, S}) -> ask({sys, F}, fun(_) -> sys:F(server(S)) end);
step({replace_state, S, {raise, error, Reason}}) ->
    ask({sys, replace_state}, fun(_) -> sys:replace_state(server(S), fun(_) -> error(Reason) end) end);
step({replace_state, S, New}) ->
    ask({sys, replace_state}, fun(_) -> sys:replace_state(server(S), fun(_) -> New end) end);
step({status, S}) ->
    {status, Pid, {module, Module}, [_, SysState, Parent | _]} = sys:get_status(server(S)),
    note({status, Pid, Module, SysState, Parent});
step({sys_terminate, S, Reason}) -> ask({sys, terminate}, fun(_) -> sys:terminate(server(S), Reason) end);
step({change_code, S, Old, Extra}) ->
    ask({sys, change_code}, fun(_) -> sys:change_code(server(S), undefined, Old, Extra) end);
step({fsm, F, S, Event}) -> note({F, gen_fsm:F(server(S), the(Event))});
step({fsm_sync, F, S, Event}) -> ask(F, fun(_) -> gen_fsm:F(server(S), the(Event)) end);
step({fsm_sync, F, S, Event, Timeout}) -> ask(F, fun(_) -> gen_fsm:F(server(S), the(Event), Timeout) end);
step({fsm_timer, Var, F, Time, Event}) -> bind(Var, gen_fsm:F(Time, Event));
step({fsm_cancel, Var}) -> note({cancel_timer, is_integer(gen_fsm:cancel_timer(the({the, Var})))});
step({timer, Var, F, {in_ms, _} = At, Who, Message}) ->
    bind(Var, erlang:F(the(At), server(Who), the(Message), [{abs, true}]));
step({timer, Var, F, Time, Who, Message}) -> bind(Var, erlang:F(Time, server(Who), the(Message)));
step({timers, F, Var}) -> note({F, is_integer(erlang:F(the({the, Var})))});
step({exit, Who, Reason}) -> exit(server(Who), the(Reason));
step({die, Reason}) -> exit(the(Reason));
step({link, Who}) -> link(server(Who));
step({unlink, Who}) -> unlink(server(Who));
step({monitor, Var, Who}) -> bind(Var, monitor(process, server(Who)));
step({demonitor, Var}) -> demonitor(the({the, Var}), [flush]);
step({trap, Flag}) -> process_flag(trap_exit, Flag);
step({register, Name}) -> register(Name, self());
step({keep, Var}) -> bind(Var, get(from));
step({on, What, Plan}) -> put({on, What}, Plan);
step({note, Term}) -> note({note, the(Term)});
step({whereis, {global, Name}}) -> note({whereis, global:whereis_name(Name)});
step({whereis, Name}) -> note({whereis, whereis(Name)});
step({alive, Who}) -> note({alive, is_process_alive(server(Who))});
step(recv) -> note({got, next(?WAIT)});
step(nothing) -> note({got, next(?NOTHING)});
step(busy) -> timer:sleep(?NOTHING);
step({ended, Who}) ->
    Monitor = monitor(process, server(Who)),
    receive {'DOWN', Monitor, _, _, _} -> ok after ?WAIT -> note('#lives') end;
step({until, Name}) -> until(Name, ?WAIT div 2).

%% Waits until another actor has bound a name.
until(Name, Tries) ->
    case the({the, Name}) of
        {the, Name} when Tries > 0 -> receive after 2 -> until(Name, Tries - 1) end;
        {the, Name} -> note({'#unbound', Name});
        _ -> ok
    end.

%% A second answer of a call comes as a message if it is quick, and is never seen in Python.
next(Timeout) ->
    receive
        {[alias | _], _} -> next(Timeout);
        Message -> Message
    after Timeout -> '#nothing'
    end.

start(How, Var, Init, Options) ->
    {Api, _} = World = get(world),
    Module = proplists:get_value(module, Options, module(Api)),
    Args = {World, Var, Init},
    Rest = [Option || {timeout, _} = Option <- Options],
    Result = case proplists:get_value(name, Options) of
                 undefined -> Api:How(Module, Args, Rest);
                 Name -> Api:How(Name, Module, Args, Rest)
             end,
    %% Before OTP 26 the exit signal of a server that was not started stays with a starter that traps
    %% exits; since then, and in Python, start_link has taken it. (The others end of it, see actors.py.)
    case Result of
        {ok, _} -> ok;
        _ when How =:= start_link ->
            receive {'EXIT', _, Reason} when element(2, Result) =/= {already_started, Reason} -> ok
            after ?NOTHING -> ok
            end;
        _ -> ok
    end,
    note({How, Result}).

module(gen_server) -> scripted_server;
module(gen_statem) -> scripted_statem;
module(gen_fsm) -> scripted_fsm.

api(F, Args) ->
    {Api, _} = get(world),
    apply(Api, F, Args).

ask(What, Ask) ->
    {Api, _} = get(world),
    try Ask(Api) of
        Value -> note({What, Value})
    catch
        exit:Reason -> note({What, exit, Reason});
        %% In Python it is an Exit too.
        error:Reason -> note({What, exit, Reason})
    end.

%% What is the same in both worlds. Stacktraces go; an error is always `boom` here and '#error' there.
normal(boom, _) -> '#error';
normal(undef, _) -> '#undef';
normal({Reason, [{_, _, _, _} | _]}, World) -> normal(Reason, World);
normal({Tag, _}, _) when Tag =:= bad_return_value; Tag =:= bad_return_from_init;
                         Tag =:= bad_return_from_state_function; Tag =:= bad_action_from_state_function;
                         Tag =:= bad_state_enter_return_from_state_function;
                         Tag =:= bad_state_enter_action_from_state_function;
                         Tag =:= bad_reply_action_from_state_function ->
    {Tag, '#value'};
%% A call with a timeout says so in its reason; Python's has seconds and leaves them out.
normal({M, F, [S, Message, _]}, World) when is_atom(M), is_atom(F) -> normal({M, F, [S, Message]}, World);
normal(Term, World) ->
    case ets:lookup(World, {who, Term}) of
        [{_, Name}] -> {'#', Name};
        [] when is_pid(Term) -> '#pid';
        [] when is_reference(Term) -> '#ref';
        [] when is_tuple(Term) -> list_to_tuple([normal(E, World) || E <- tuple_to_list(Term)]);
        [] when is_list(Term) -> normal_list(Term, World);
        [] -> Term
    end.

normal_list([H | T], World) -> [normal(H, World) | normal_list(T, World)];
normal_list([], _) -> [];
normal_list(Tail, World) -> normal(Tail, World).
