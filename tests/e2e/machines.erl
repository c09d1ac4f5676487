%%% State machines that test_python_calls_erlang.py calls: OTP's gen_statem, and p1_fsm, which is
%%% OTP's old gen_fsm as ejabberd keeps it.
-module(machines).

-export([start/0]).
%% gen_statem
-export([init/1, callback_mode/0, handle_event/4]).
%% p1_fsm
-export([off/2, off/3, on/2, on/3, handle_event/3, handle_sync_event/4, handle_info/3, terminate/3]).

%% @doc Starts `door`, which counts what passes, and `lamp`.
start() ->
    {ok, _} = gen_statem:start({local, door}, ?MODULE, door, []),
    {ok, _} = p1_fsm:start({local, lamp}, ?MODULE, lamp, []),
    ok.

init(door) -> {ok, locked, 0};
init(lamp) -> {ok, off, []}.

callback_mode() -> handle_event_function.

handle_event(cast, unlock, _, Passed) -> {next_state, open, Passed};
handle_event({call, From}, pass, open, Passed) -> {next_state, locked, Passed + 1, {reply, From, Passed + 1}};
%% Answered by whoever unlocks.
handle_event({call, _}, pass, locked, _) -> {keep_state_and_data, postpone};
handle_event({call, From}, state, State, Passed) -> {keep_state_and_data, {reply, From, {State, Passed}}};
handle_event({call, _}, break, _, _) -> {stop, broken}.

off(press, Seen) -> {next_state, on, [press | Seen]}.
on(press, Seen) -> {next_state, off, [press | Seen]}.

off(Question, _, Seen) -> {reply, {off, Question}, off, Seen}.
on(Question, _, Seen) -> {reply, {on, Question}, on, Seen}.

handle_event(Event, State, Seen) -> {next_state, State, [Event | Seen]}.

handle_sync_event(seen, _, State, Seen) -> {reply, {State, lists:reverse(Seen)}, State, Seen};
handle_sync_event(wait, _, State, Seen) -> {next_state, State, Seen};
handle_sync_event(break, _, _, Seen) -> {stop, broken, Seen}.

handle_info(_, State, Seen) -> {next_state, State, Seen}.

terminate(_, _, _) -> ok.
