%%% Finds out in the background what is dear to know, and publishes it for whoever asks: nobody ever
%%% waits for a sample, and each says how old it is.
%%%
%%% Each kind of sample is taken by a process of its own, now and then, so that one which is stuck
%%% holds up nothing but itself. Each costs a hundredth of a scheduler at most, however much there is
%%% to look at: it rests for 99 times as long as it has worked, after it or in the midst of it.
-module(megaphone_sampler).

-behaviour(gen_server).

-export([start_link/1, soon/1, reload/1, metrics/0, detail/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).
-export_type([kind/0, sample/1]).

-include("logger.hrl").

%% Milliseconds after which a sample that is not there yet is given up.
-define(LIMIT, 600000).
-define(REST, 99).

-type kind() :: sessions | mailboxes | registered | tables | schedulers | machine.
%% What a kind's function gives, having got what it gave as `next` before (`none` at first).
-type sample(Next) :: #{metrics := megaphone_metrics:metrics(),
                        detail => megaphone_metrics:metrics(),
                        next := Next}.
-type options() :: #{sample_interval := pos_integer(), reconciliation_interval := pos_integer(),
                     atom() => term()}.

-record(job, {take :: {module(), Function :: atom()},
              interval :: sample_interval | reconciliation_interval,
              rests :: after_it | in_it,
              next = none :: term(),
              %% Its process, or the timer of its next turn.
              state :: {waiting, reference()} | {working, pid(), Since :: integer(), reference()},
              %% Wanted again as soon as it is done.
              again = false :: boolean(),
              complained = false :: boolean()}).

-record(state, {options :: options(),
                jobs :: #{kind() => #job{}}}).

-define(KINDS, [{sessions, {megaphone_reconciliation, sample}, reconciliation_interval, after_it},
                {mailboxes, {megaphone_mailboxes, sample}, sample_interval, in_it},
                {registered, {megaphone_mailboxes, registered}, sample_interval, after_it},
                {tables, {megaphone_tables, sample}, sample_interval, after_it},
                {schedulers, {megaphone_schedulers, sample}, sample_interval, after_it},
                {machine, {megaphone_machine, sample}, sample_interval, after_it}]).

-spec start_link(options()) -> {ok, pid()} | {error, term()} | ignore.
start_link(Options) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, Options, []).

%% @doc Takes a sample of this kind as soon as may be.
-spec soon(kind()) -> ok.
soon(Kind) ->
    gen_server:cast(?MODULE, {soon, Kind}).

-spec reload(options()) -> ok.
reload(Options) ->
    gen_server:cast(?MODULE, {reload, Options}).

%% @doc The newest samples, and how old they are.
-spec metrics() -> megaphone_metrics:metrics().
metrics() ->
    Now = now_ms(),
    %% Without the details, which are long.
    Samples = ets:select(?MODULE, [{{'$1', '$2', '$3', '_'}, [], [{{'$1', '$2', '$3'}}]}]),
    Ages = [{atom_to_binary(Kind, utf8), (Now - At) / 1000} || {Kind, At, _} <- Samples],
    lists:foldl(fun({_, _, Metrics}, All) -> merge(All, Metrics) end,
                #{<<"node_sample_age_seconds">> => Ages}, Samples).

%% What two kinds have looked at is as long as the longer one has found it.
merge(One, Other) ->
    maps:merge_with(fun(_, A, B) -> max(A, B) end, One, Other).

%% @doc What is too much for every scrape.
-spec detail() -> megaphone_metrics:metrics().
detail() ->
    lists:foldl(fun maps:merge/2, #{}, ets:select(?MODULE, [{{'_', '_', '_', '$1'}, [], ['$1']}])).

%% Callbacks.

%% @private
-spec init(options()) -> {ok, #state{}}.
init(Options) ->
    _ = process_flag(trap_exit, true),
    ok = megaphone_schedulers:enable(),
    ?MODULE = ets:new(?MODULE, [named_table, protected, {read_concurrency, true}]),
    {ok, #state{options = Options,
                jobs = maps:from_list([{Kind, #job{take = Take, interval = Interval, rests = Rests,
                                                   state = wait(Kind, 0)}}
                                       || {Kind, Take, Interval, Rests} <- ?KINDS])}}.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, {error, badarg}, #state{}}.
handle_call(_Request, _From, State) ->
    {reply, {error, badarg}, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({soon, Kind}, State = #state{jobs = Jobs}) ->
    {noreply, State#state{jobs = maps:update_with(Kind, fun(Job) -> hurry(Kind, Job) end, Jobs)}};
handle_cast({reload, Options}, State = #state{jobs = Jobs}) ->
    {noreply, State#state{options = Options, jobs = maps:map(fun hurry/2, Jobs)}};
handle_cast(_, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({timeout, Timer, {turn, Kind}}, State = #state{jobs = Jobs}) ->
    case Jobs of
        #{Kind := #job{state = {waiting, Timer}} = Job} ->
            {noreply, State#state{jobs = Jobs#{Kind := work(Kind, Job)}}};
        #{Kind := #job{state = {working, Pid, _, Timer}}} ->
            exit(Pid, kill),
            {noreply, State};
        _ ->
            {noreply, State}
    end;
handle_info({'EXIT', Pid, Reason}, State = #state{jobs = Jobs}) ->
    case [{Kind, Job} || {Kind, #job{state = {working, Of, _, _}} = Job} <- maps:to_list(Jobs),
                         Of =:= Pid] of
        [{Kind, Job}] ->
            Done = done(Kind, Reason, Job, State#state.options),
            {noreply, State#state{jobs = Jobs#{Kind := Done}}};
        [] ->
            {noreply, State}
    end;
handle_info(_, State) ->
    {noreply, State}.

work(Kind, Job = #job{take = {Module, Function}, next = Next}) ->
    Pid = spawn_link(fun() -> exit(taken(Module, Function, Next)) end),
    Job#job{state = {working, Pid, now_ms(), timer(?LIMIT, Kind)}, again = false}.

%% An exit, and no error: nothing of it is logged but by the sampler, once.
taken(Module, Function, Next) ->
    try {sample, Module:Function(Next)}
    catch
        Class:Reason -> {Class, Reason}
    end.

done(Kind, Result, Job = #job{state = {working, _, Since, Limit}}, Options) ->
    _ = erlang:cancel_timer(Limit),
    Now = now_ms(),
    Taken = case Result of
                {sample, #{metrics := Metrics, next := Next} = Sample} ->
                    Detail = maps:get(detail, Sample, #{}),
                    _ = [ets:insert(?MODULE, {Kind, Now, Metrics, Detail}) || Metrics =/= #{}],
                    Job#job{next = Next, complained = false};
                _ ->
                    complain(Kind, Result, Job)
            end,
    Interval = maps:get(Job#job.interval, Options),
    Rest = case Job#job.rests of
               after_it -> max(Interval, ?REST * (Now - Since));
               in_it -> Interval
           end,
    Taken#job{state = wait(Kind, case Taken#job.again of
                                     true -> 0;
                                     false -> Rest
                                 end)}.

complain(Kind, Reason, Job = #job{complained = false}) ->
    ?WARNING_MSG("megaphone: there is no sample of ~ts: ~0P", [Kind, Reason, 12]),
    Job#job{complained = true};
complain(_Kind, _Reason, Job) ->
    Job.

hurry(Kind, Job = #job{state = {waiting, Timer}}) ->
    _ = erlang:cancel_timer(Timer),
    Job#job{state = wait(Kind, 0)};
hurry(_Kind, Job) ->
    Job#job{again = true}.

wait(Kind, Milliseconds) ->
    {waiting, timer(Milliseconds, Kind)}.

timer(Milliseconds, Kind) ->
    erlang:start_timer(Milliseconds, self(), {turn, Kind}).

now_ms() ->
    erlang:monotonic_time(millisecond).
