%%% A batch of one that travels the whole way of a broadcast's, to a worker and back, every few
%%% seconds: how long it takes is how long anybody's batch would wait now. It goes to nobody.
%%%
%%% At most one is under way, and one that is not back in time is lost and called off.
-module(megaphone_heartbeat).

-behaviour(gen_server).

-export([start_link/1, reload/1, metrics/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

%% Its broadcast: no broadcast has such an id. The program keeps it out of its own counts.
-define(ID, <<"heartbeat">>).
-define(TEXT, <<"alive">>).
-define(TEMPLATE, <<"{{ user }}">>).
%% Milliseconds after which it is lost: a batch that is being formatted may hold it up, by as long
%% as a batch may take.
-define(LOST, 10000).

-type options() :: #{pipeline_heartbeat_interval := pos_integer() | infinity,
                     lost_after => pos_integer(), atom() => term()}.

-record(state, {interval :: pos_integer() | infinity,
                lost_after :: pos_integer(),
                %% When the next one begins, if any does.
                timer = none :: none | reference(),
                number = 0 :: non_neg_integer(),
                %% The one under way: when it began, and when it is lost.
                beat = none :: none | {Begun :: integer(), Lost :: reference()}}).

-spec start_link(options()) -> {ok, pid()} | {error, term()} | ignore.
start_link(Options) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, Options, []).

-spec reload(options()) -> ok.
reload(Options) ->
    gen_server:cast(?MODULE, {reload, Options}).

%% @doc How long ago the last one came through, or the first one was to begin.
-spec metrics() -> megaphone_metrics:metrics().
metrics() ->
    case ets:lookup(?MODULE, since) of
        [{since, Since}] ->
            #{<<"pipeline_heartbeat_age_seconds">> => seconds(now_us() - Since)};
        [] ->
            #{}
    end.

%% Callbacks.

%% @private
-spec init(options()) -> {ok, #state{}}.
init(Options = #{pipeline_heartbeat_interval := Interval}) ->
    ?MODULE = ets:new(?MODULE, [named_table, protected, {read_concurrency, true}]),
    LostAfter = maps:get(lost_after, Options, ?LOST),
    {ok, interval(Interval, #state{interval = infinity, lost_after = LostAfter})}.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, {error, badarg}, #state{}}.
handle_call(_Request, _From, State) ->
    {reply, {error, badarg}, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({reload, #{pipeline_heartbeat_interval := Interval}}, State = #state{interval = Before})
  when Interval =/= Before ->
    {noreply, interval(Interval, State)};
handle_cast(_, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({timeout, Timer, begin_one}, State = #state{timer = Timer, interval = Interval}) ->
    {noreply, begin_one(State#state{timer = timer(Interval, begin_one)})};
handle_info({timeout, Lost, lost}, State = #state{beat = {_, Lost}}) ->
    {noreply, ended(heartbeats_lost, State)};
handle_info({megaphone_batch, ?ID, Number, Answer},
            State = #state{number = Number, beat = {Begun, _}}) ->
    {noreply, answered(Answer, now_us() - Begun, State)};
handle_info({megaphone_port, disconnected}, State = #state{beat = {_, _}}) ->
    {noreply, ended(heartbeats_lost, State)};
handle_info(_, State) ->
    {noreply, State}.

interval(Interval, State = #state{timer = Timer}) ->
    _ = [erlang:cancel_timer(Timer) || Timer =/= none],
    case Interval of
        infinity ->
            true = ets:delete(?MODULE, since),
            State#state{interval = infinity, timer = none};
        _ ->
            _ = ets:insert_new(?MODULE, {since, now_us()}),
            State#state{interval = Interval, timer = timer(Interval, begin_one)}
    end.

begin_one(State = #state{beat = {_, _}}) ->
    State;
begin_one(State = #state{number = Before, lost_after = LostAfter}) ->
    Number = Before + 1,
    Begun = now_us(),
    %% Each with a subscription of its own: no answer to an earlier one comes in.
    case connected() andalso megaphone_port:send_batch(?ID, Number, body()) of
        ok -> State#state{number = Number, beat = {Begun, timer(LostAfter, lost)}};
        false -> State;
        {error, disconnected} -> State;
        {error, _} -> ended(heartbeats_failed, State)
    end.

connected() ->
    try megaphone_port:subscribe(?ID) of
        {ok, Port} -> Port =:= connected
    catch
        error:{megaphone_port, _} -> false
    end.

answered({done, Body}, Microseconds, State) ->
    case megaphone_batch:texts(Body, 1, batch()) of
        {ok, [[?TEXT]], _} ->
            ok = megaphone_counts:observe(heartbeat, Microseconds),
            true = ets:insert(?MODULE, {since, now_us()}),
            ended(heartbeats_done, State);
        _ ->
            ended(heartbeats_failed, State)
    end;
answered({failed, _, _}, _, State) ->
    ended(heartbeats_failed, State).

%% The program forgets it, where it still waits, and that it failed.
ended(Outcome, State = #state{beat = Beat}) ->
    _ = [erlang:cancel_timer(Lost) || {_, Lost} <- [Beat]],
    ok = megaphone_counts:add(Outcome),
    ok = megaphone_port:unsubscribe(?ID),
    State#state{beat = none}.

batch() ->
    {Batch, 0} = megaphone_batch:new(0, [{?TEXT, <<>>}]),
    Batch.

body() ->
    megaphone_batch:request([?TEMPLATE], [<<"user">>], batch()).

timer(Milliseconds, What) ->
    erlang:start_timer(Milliseconds, self(), What).

now_us() ->
    erlang:monotonic_time(microsecond).

seconds(Microseconds) ->
    Microseconds / 1.0e6.
