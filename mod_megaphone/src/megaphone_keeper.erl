%%% Keeps the tree alive and never fails itself: the only child that ejabberd's own supervisor
%%% sees. A tree that ends for a bug is started again, later each time.
-module(megaphone_keeper).

-behaviour(gen_server).

-export([start_link/1, child_spec/1, options/0, reload/1]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-include("logger.hrl").

%% Milliseconds.
-define(CALL_TIME, 5000).
-define(FIRST_WAIT, 1000).
-define(LAST_WAIT, 60000).
%% A tree that lived longer is started again after the first wait.
-define(GOOD_LIFE, 60000).
%% The tree's shutdown, and the keeper's own, which is longer.
-define(TREE_SHUTDOWN, 10000).
-define(SHUTDOWN, 12000).
%% ejabberd's supervisor gives up at more than 10 restarts in a second. No more than 4 are
%% possible, whatever kills the keeper.
-define(START_INTERVAL, 250).
-define(STARTED, {?MODULE, started}).

%% Options that a sidecar that stands by has been told, or is held to.
-define(SIDECARS, [sidecar, port_window, heartbeat_interval, heartbeat_timeout]).

-record(state, {options :: options(),
                tree = none :: none | pid(),
                started = 0 :: integer(),
                wait = ?FIRST_WAIT :: pos_integer(),
                complained = false :: boolean()}).

-type options() :: #{atom() => term()}.

-spec start_link(options()) -> {ok, pid()} | {error, term()}.
start_link(Options) ->
    %% Here, in the supervisor's process: a keeper that is killed while it waits would not wait.
    ok = pace(),
    gen_server:start_link({local, ?MODULE}, ?MODULE, Options, []).

-spec child_spec(options()) -> supervisor:child_spec().
child_spec(Options) ->
    #{id => ?MODULE, start => {?MODULE, start_link, [Options]},
      restart => permanent, shutdown => ?SHUTDOWN, type => worker, modules => [?MODULE]}.

%% @doc The node's options, those with which the tree runs.
-spec options() -> {ok, options()} | {error, timeout | noproc}.
options() ->
    call(options).

%% @doc Takes other options and hands them to the tree.
-spec reload(options()) -> ok | {error, timeout | noproc}.
reload(Options) ->
    call({reload, Options}).

call(Request) ->
    try gen_server:call(?MODULE, Request, ?CALL_TIME)
    catch
        exit:{timeout, _} -> {error, timeout};
        exit:_ -> {error, noproc}
    end.

%% @private
-spec init(options()) -> {ok, #state{}, {continue, tree}}.
init(Options) ->
    _ = process_flag(trap_exit, true),
    %% Here: what is counted outlives the tree.
    ok = megaphone_sessions:new_table(),
    {ok, #state{options = Options}, {continue, tree}}.

%% @private
-spec handle_continue(tree, #state{}) -> {noreply, #state{}}.
handle_continue(tree, State) ->
    {noreply, start_tree(State)}.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call(options, _From, State = #state{options = Options}) ->
    {reply, {ok, Options}, State};
handle_call({reload, Options}, _From, State = #state{tree = Tree, options = Before}) ->
    _ = [ok = Module:reload(Options)
         || Tree =/= none, Module <- [megaphone_port, megaphone_heartbeat, megaphone_sampler]],
    _ = [ok = megaphone_sidecars_sup:restart()
         || Tree =/= none, maps:with(?SIDECARS, Before) =/= maps:with(?SIDECARS, Options)],
    {reply, ok, State#state{options = Options}};
handle_call(_Request, _From, State) ->
    {reply, {error, badarg}, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Message, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({'EXIT', Tree, Reason}, State = #state{tree = Tree}) ->
    {noreply, again(Reason, State#state{tree = none})};
handle_info({'DOWN', _, process, _, _}, State = #state{tree = none}) ->
    {noreply, start_tree(State)};
handle_info(start_tree, State = #state{tree = none}) ->
    {noreply, start_tree(State)};
handle_info(_Message, State) ->
    {noreply, State}.

%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{tree = none}) ->
    case whereis(megaphone_sup) of
        undefined -> ok;
        Ending ->
            Monitor = monitor(process, Ending),
            receive {'DOWN', Monitor, process, _, _} -> ok
            after ?TREE_SHUTDOWN -> ok
            end
    end;
terminate(_Reason, #state{tree = Tree}) ->
    exit(Tree, shutdown),
    receive
        {'EXIT', Tree, _} -> ok
    after ?TREE_SHUTDOWN ->
            exit(Tree, kill),
            receive {'EXIT', Tree, _} -> ok
            after 1000 -> ok
            end
    end.

start_tree(State = #state{options = Options}) ->
    Now = erlang:monotonic_time(millisecond),
    try megaphone_sup:start_link(Options) of
        {ok, Tree} -> State#state{tree = Tree, started = Now};
        {error, {already_started, Ending}} ->
            %% The keeper before this one was killed, and its tree is about to end for that.
            _ = monitor(process, Ending),
            State;
        {error, Reason} -> again(Reason, State#state{started = Now})
    catch
        %% A module of the package that is not there: never the keeper's end.
        error:Reason -> again(Reason, State#state{started = Now})
    end.

again(Reason, State = #state{started = Started, wait = Wait}) ->
    Lived = erlang:monotonic_time(millisecond) - Started,
    {Delay, Complained} = case Lived > ?GOOD_LIFE of
                              true -> {?FIRST_WAIT, false};
                              false -> {Wait, State#state.complained}
                          end,
    complain(Complained, Reason, Delay),
    _ = erlang:send_after(Delay, self(), start_tree),
    State#state{wait = min(2 * Delay, ?LAST_WAIT), complained = true}.

complain(false, Reason, Delay) ->
    ?ERROR_MSG("megaphone: its processes ended for a bug: ~ts. ejabberd goes on; they are started "
               "again in ~b ms, and quietly after that", [summary(Reason), Delay]);
complain(true, Reason, Delay) ->
    ?DEBUG("megaphone: its processes ended again: ~ts; next start in ~b ms", [summary(Reason), Delay]).

%% A reason may carry arguments, and they message bodies: only its outline is shown.
summary(Reason) ->
    io_lib:format("~0P", [Reason, 12]).

pace() ->
    Now = erlang:monotonic_time(millisecond),
    Last = persistent_term:get(?STARTED, Now - ?START_INTERVAL),
    case ?START_INTERVAL - (Now - Last) of
        Left when Left > 0 -> timer:sleep(Left);
        _ -> ok
    end,
    %% A small integer: replacing it costs no global collection.
    persistent_term:put(?STARTED, erlang:monotonic_time(millisecond)).
