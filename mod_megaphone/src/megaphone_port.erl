%%% Owns the port to the port program, through all its lives.
%%%
%%%     starting ──hello──▶ connected ──end──▶ backing_off ──wait──▶ starting
%%%         └──────end──────────────────────────▲   │ one failure too many
%%%         └──end of a try while down──▶ down ◀────┘
%%%                                        └──every retry_interval──▶ starting
%%%
%%% With the option `sidecar` the program comes by itself, and nothing is started:
%%%
%%%     waiting ──adopt──▶ starting ──hello──▶ connected
%%%        ▲─────────end──────┴────────end─────────┘
%%%
%%% The death of the program is an event here and not a crash. Nothing in this process blocks:
%%% writing, killing, checking and answering each have a process of their own.
-module(megaphone_port).

-behaviour(gen_statem).

-export([start_link/1, reload/1, status/0, limits/0]).
-export([call/3, cast/2, subscribe/1, unsubscribe/1, send_batch/3]).
-export([attach/2, send_signals/1, complain/1]).
-export([adopt/1, release/1, vacancy/0, standing_by/1]).
-export([init/1, callback_mode/0, handle_event/4, terminate/3, format_status/1]).

-include("logger.hrl").

%% Milliseconds that a request may wait for the owner itself.
-define(OWNER_TIME, 5000).
-define(STATUS_TIME, 2000).
%% Calls that may wait for the program's answer.
-define(MAX_CALLS, 10000).
%% Milliseconds that the program has to end by itself when it is stopped on purpose.
-define(GRACE, 1000).
%% Milliseconds between two looks at whether the former process group is gone.
-define(ENDING_POLL, 50).
%% Options that the running program depends on.
-define(PROGRAM_OPTIONS, [python, config_file, heartbeat_interval, heartbeat_timeout,
                          max_frame, port_window, sidecar]).
%% Milliseconds that a sidecar has for its hello: it runs already.
-define(SIDECAR_HELLO, 2000).

-record(data, {options :: options(),
               life = none :: none | megaphone_life:life(),
               restarts :: megaphone_restarts:restarts(),
               %% Sees to the end of the former life's process group.
               ending = none :: none | {pid(), reference()},
               %% Finds out why the program does not start: once until it says hello again.
               check = not_run :: not_run | done | {pid(), reference()},
               reason = undefined :: undefined | binary(),
               lives = 0 :: non_neg_integer(),
               %% Sidecars that could take over at once.
               standby = 0 :: non_neg_integer(),
               %% Of the sidecar that was here last.
               epoch = 0 :: non_neg_integer(),
               pending = #{} :: #{Id :: pos_integer() => gen_statem:from()},
               answering = megaphone_calls:new() :: megaphone_calls:calls(),
               subscribers = megaphone_subscribers:new() :: megaphone_subscribers:subscribers(),
               processes = megaphone_processes:new() :: megaphone_processes:processes(),
               log = megaphone_log:new() :: megaphone_log:limiter()}).

-type options() :: #{atom() => term()}.
-type failure() :: disconnected | overload | timeout | too_large
                 | {megaphone_protocol:error_kind(), binary()}.

%% @doc Starts the owner; the program is started right after. Options are mod_megaphone's.
-spec start_link(options()) -> gen_statem:start_ret().
start_link(Options) ->
    gen_statem:start_link({local, ?MODULE}, ?MODULE, Options, []).

%% @doc Takes other options; restarts the program if it depends on one that changed.
-spec reload(options()) -> ok.
reload(Options) ->
    gen_statem:cast(?MODULE, {reload, Options}).

%% @doc docs/protocol.md, `port`. Answers in every state, in two seconds at most.
-spec status() -> #{binary() => term()}.
status() ->
    case request(status, ?STATUS_TIME) of
        {error, Reason} ->
            #{<<"state">> => <<"down">>, <<"transport">> => undefined, <<"os_pid">> => undefined, <<"restarts">> => 0,
              <<"reason">> => <<"the owner of the port does not answer: ",
                                (atom_to_binary(Reason, utf8))/binary>>,
              <<"connected_seconds">> => undefined, <<"queued_bytes">> => 0,
              <<"credit_bytes">> => 0, <<"processes">> => 0};
        Status ->
            Status
    end.

%% @doc What the program said that it accepts: the longest payload in bytes.
-spec limits() -> {ok, #{max_frame := pos_integer()}} | {error, disconnected | timeout}.
limits() ->
    request(limits, ?OWNER_TIME).

%% @doc Calls a name in Python. The answer is decoded here, in the caller's process.
-spec call(binary(), term(), pos_integer()) -> {ok, term()} | {error, failure()}.
call(Name, Request, TimeoutMs) when is_binary(Name), is_integer(TimeoutMs), TimeoutMs > 0 ->
    Id = erlang:unique_integer([positive]),
    Prefix = megaphone_protocol:call_prefix(Id, Name, Request),
    case request({call, Id, Prefix, TimeoutMs}, TimeoutMs + ?OWNER_TIME) of
        {answer, Outcome, Binary} -> megaphone_protocol:decode_answer(Outcome, Binary);
        {error, _} = Error -> Error
    end.

%% @doc Sends a message to a name in Python; it is dropped where a call would be refused.
-spec cast(binary(), term()) -> ok.
cast(Name, Message) when is_binary(Name) ->
    {Frame, Size} = megaphone_frame:encode({cast, Name, Message}),
    gen_statem:cast(?MODULE, {frame, Frame, Size}).

%% @doc Makes the calling process the receiver of a broadcast's answers:
%% {megaphone_batch, BroadcastId, N, {done, Body} | {failed, Reason, Text}}, and
%% {megaphone_port, connected | disconnected} whenever that changes. What was sent before a
%% disconnection is not answered any more.
-spec subscribe(binary()) -> {ok, connected | disconnected}.
subscribe(BroadcastId) when is_binary(BroadcastId) ->
    case request({subscribe, BroadcastId, self()}, ?OWNER_TIME) of
        {ok, _} = Ok -> Ok;
        {error, Reason} -> error({megaphone_port, Reason})
    end.

%% @doc Ends it; the program forgets what it holds of the broadcast.
-spec unsubscribe(binary()) -> ok.
unsubscribe(BroadcastId) when is_binary(BroadcastId) ->
    gen_statem:cast(?MODULE, {unsubscribe, BroadcastId, self()}).

%% @doc Sends batch N of a broadcast that the calling process has subscribed to. `too_large`:
%% the program accepts no frame of this size.
-spec send_batch(binary(), non_neg_integer(), binary()) ->
          ok | {error, disconnected | overload | too_large}.
send_batch(BroadcastId, N, Body) when is_binary(BroadcastId), is_integer(N), is_binary(Body) ->
    {Frame, Size} = megaphone_frame:encode({batch, BroadcastId, N, Body}),
    case request({batch, BroadcastId, self(), N, Frame, Size}, ?OWNER_TIME) of
        %% The owner may still send it; its answer is then one more than was waited for.
        {error, timeout} -> {error, overload};
        Result -> Result
    end.

%% @doc Makes the calling process the proxy of a Python process, for a call that the program is
%% making now.
-spec attach(pos_integer(), Call :: pid()) ->
          {ok, #{link := megaphone_processes:link(), max_frame := pos_integer()}}
        | {error, {megaphone_protocol:error_kind(), binary()}}.
attach(Process, Call) ->
    case request({attach, Process, self(), Call}, ?OWNER_TIME) of
        {ok, _} = Ok -> Ok;
        {error, overload} -> {error, {overload, <<"there are as many processes as there may be">>}};
        {error, badarg} -> {error, {badarg, <<"the process has a proxy already">>}};
        {error, _} -> {error, {noproc, <<"the connection is gone">>}}
    end.

%% @doc Sends signals of a proxy's. The answer comes late while much waits to be written.
-spec send_signals(megaphone_signals:batch()) -> ok | {error, disconnected | overload | too_large}.
send_signals(Batch) ->
    case request({signals, Batch}, ?OWNER_TIME) of
        %% The owner has them, or will take them: to send them again would be once too often.
        {error, timeout} -> ok;
        Result -> Result
    end.

%% @doc Logs a line about a Python process, among those that the program may have in a second.
-spec complain(binary()) -> ok.
complain(Text) ->
    gen_statem:cast(?MODULE, {complain, Text}).

%% @doc It is this sidecar's turn; its socket belongs to the owner already, which closes it where it
%% does not want it.
-spec adopt(megaphone_life:sidecar()) -> ok | {error, busy | disconnected | timeout}.
adopt(Sidecar) ->
    request({adopt, Sidecar}, ?OWNER_TIME).

%% @doc Ends the turn of this epoch, if it is the one that runs.
-spec release(pos_integer()) -> ok.
release(Epoch) ->
    gen_statem:cast(?MODULE, {release, Epoch}).

%% @doc Asks for megaphone_sidecars:released/1 once there is no sidecar here: now, or when the one that
%% is here goes.
-spec vacancy() -> ok.
vacancy() ->
    gen_statem:cast(?MODULE, vacancy).

%% @doc How many sidecars stand by.
-spec standing_by(non_neg_integer()) -> ok.
standing_by(Count) ->
    gen_statem:cast(?MODULE, {standing_by, Count}).

request(Request, Timeout) ->
    %% No proxy process: a late answer goes to an alias that is gone (OTP 24).
    try gen_statem:call(?MODULE, Request, {dirty_timeout, Timeout})
    catch
        exit:{timeout, _} -> {error, timeout};
        exit:_ -> {error, disconnected}
    end.

%% Callbacks.

%% @private
-spec callback_mode() -> gen_statem:callback_mode_result().
callback_mode() ->
    handle_event_function.

%% @private
-spec init(options()) -> gen_statem:init_result(atom()).
init(Options) ->
    _ = process_flag(trap_exit, true),
    _ = process_flag(message_queue_data, off_heap),
    %% The mailbox holds message bodies: no crash report, trace or dump may show them.
    _ = process_flag(sensitive, true),
    Data = #data{options = Options, restarts = megaphone_restarts:new(Options)},
    case Options of
        #{sidecar := undefined} -> {ok, starting, Data, {next_event, internal, start}};
        #{sidecar := _} -> {ok, waiting, Data}
    end.

%% @private
-spec handle_event(gen_statem:event_type(), term(), atom(), #data{}) ->
          gen_statem:event_handler_result(atom()).
handle_event(Type, Event, State, Data) ->
    megaphone_log:guarded(fun() -> handle(Type, Event, State, Data) end).

%% @private
-spec terminate(term(), atom(), #data{}) -> ok.
terminate(_Reason, _State, Data = #data{life = Life, check = Check, answering = Answering}) ->
    ok = megaphone_calls:stop(Answering),
    _ = megaphone_processes:disconnected(Data#data.processes),
    Helpers = [Helper || {_, _} = Helper <- [Data#data.ending, Check]]
        ++ [Helper || Life =/= none, {_, _} = Helper <- [megaphone_life:close(?GRACE, Life)]],
    _ = [megaphone_check:stop(Pid) || {Pid, _} <- [Check]],
    Deadline = now_ms() + megaphone_program:ending_time(?GRACE),
    lists:foreach(fun({_, Monitor}) ->
                          receive {'DOWN', Monitor, process, _, _} -> ok
                          after max(0, Deadline - now_ms()) -> ok
                          end
                  end, Helpers).

%% @private State and queues hold message bodies.
-spec format_status(gen_statem:format_status()) -> gen_statem:format_status().
format_status(Status) ->
    maps:map(fun(data, #data{reason = Reason, lives = Lives}) ->
                     #{reason => Reason, lives => Lives};
                (data, _) -> hidden;
                (queue, Queue) -> [hidden || _ <- Queue];
                (postponed, Queue) -> [hidden || _ <- Queue];
                (log, Log) -> [hidden || _ <- Log];
                (_, Value) -> Value
             end, Status).

%% The life of the program.

handle(internal, start, starting, Data = #data{options = Options, lives = Lives}) ->
    case megaphone_life:start(Options) of
        {ok, Life} ->
            Timeout = maps:get(hello_timeout, Options),
            _ = [megaphone_counts:add(program_restarts) || Lives > 0],
            {keep_state, Data#data{life = Life, lives = Lives + 1}, {state_timeout, Timeout, hello}};
        {error, Text} ->
            ended({start, Text}, Data)
    end;
handle(state_timeout, hello, starting, Data) ->
    ended(no_hello, Data);
handle(state_timeout, retry, _, #data{ending = {_, _}}) ->
    {keep_state_and_data, {state_timeout, ?ENDING_POLL, retry}};
handle(state_timeout, retry, _, Data) ->
    {next_state, starting, Data, {next_event, internal, start}};
handle({timeout, tick}, tick, connected, Data = #data{life = Life, options = Options}) ->
    {Interval, Timeout} = patience(Options, Data),
    case megaphone_life:tick(Interval, Timeout, Life) of
        {ok, Ticked} ->
            Log = megaphone_log:tick(Data#data.log),
            {keep_state, Data#data{life = Ticked, log = Log}, tick(Interval)};
        {ended, Reason} -> ended(Reason, Data)
    end;
handle({timeout, {call, Id}}, expired, _, Data = #data{pending = Pending}) ->
    {From, Rest} = maps:take(Id, Pending),
    {keep_state, Data#data{pending = Rest}, {reply, From, {error, timeout}}};

%% Requests.

handle({call, From}, status, State, Data) ->
    {keep_state_and_data, {reply, From, status(State, Data)}};
handle({call, From}, limits, connected, #data{life = Life}) ->
    {keep_state_and_data, {reply, From, {ok, maps:with([max_frame], megaphone_life:peer(Life))}}};
handle({call, From}, {subscribe, Broadcast, Pid}, State, Data = #data{subscribers = Subscribers}) ->
    Answer = case State of
                 connected -> connected;
                 _ -> disconnected
             end,
    {keep_state, Data#data{subscribers = megaphone_subscribers:add(Broadcast, Pid, Subscribers)},
     {reply, From, {ok, Answer}}};
handle({call, From}, {call, Id, Prefix, TimeoutMs}, connected,
       Data = #data{life = Life, pending = Pending}) when map_size(Pending) < ?MAX_CALLS ->
    Item = {call, Prefix, now_ms() + TimeoutMs},
    case megaphone_life:queue(Item, megaphone_protocol:call_size(Prefix), Life) of
        {ok, Queued} ->
            {keep_state, Data#data{life = Queued, pending = Pending#{Id => From}},
             {{timeout, {call, Id}}, TimeoutMs, expired}};
        Refused ->
            {keep_state_and_data, {reply, From, {error, Refused}}}
    end;
handle({call, From}, {call, _, _, _}, connected, _Data) ->
    {keep_state_and_data, {reply, From, {error, overload}}};
handle({call, From}, {batch, Broadcast, Pid, N, Frame, Size}, connected,
       Data = #data{life = Life, subscribers = Subscribers}) ->
    case megaphone_subscribers:is_receiver(Broadcast, Pid, Subscribers)
        andalso megaphone_life:queue({batch, Broadcast, Frame}, Size, Life) of
        {ok, Queued} ->
            {keep_state, Data#data{life = Queued,
                                   subscribers = megaphone_subscribers:sent(Broadcast, N, Subscribers)},
             {reply, From, ok}};
        false ->
            {keep_state_and_data, {reply, From, {error, disconnected}}};
        Refused ->
            {keep_state_and_data, {reply, From, {error, Refused}}}
    end;
handle({call, From}, {attach, Process, Pid, Call}, connected,
       Data = #data{life = Life, processes = Processes, answering = Calls, options = Options}) ->
    #{max_processes := Max} = Options,
    case megaphone_calls:is_running(Call, Calls)
        andalso megaphone_processes:attach(Process, Pid, Max, Life, Processes) of
        {ok, Limits, Attached} ->
            {keep_state, Data#data{processes = Attached}, {reply, From, {ok, Limits}}};
        false ->
            {keep_state_and_data, {reply, From, {error, disconnected}}};
        Error ->
            {keep_state_and_data, {reply, From, Error}}
    end;
handle({call, From}, {signals, Batch}, connected, Data = #data{life = Life, processes = Processes}) ->
    {Actions, Queued, Waiting} = megaphone_processes:send(From, Batch, Life, Processes),
    {keep_state, Data#data{life = Queued, processes = Waiting}, Actions};
handle({call, From}, {adopt, Sidecar = #{epoch := Epoch}}, waiting,
       Data = #data{options = Options, lives = Lives}) ->
    case megaphone_life:adopt(Sidecar, Options) of
        {ok, Life} ->
            {next_state, starting, Data#data{life = Life, lives = Lives + 1, epoch = Epoch},
             [{reply, From, ok}, {state_timeout, ?SIDECAR_HELLO, hello}]};
        {ended, _} ->
            {keep_state_and_data, {reply, From, {error, disconnected}}}
    end;
handle({call, From}, {adopt, #{transport := Transport}}, _, _Data) ->
    ok = megaphone_transport:close(Transport),
    {keep_state_and_data, {reply, From, {error, busy}}};
handle({call, From}, _, _, _Data) ->
    {keep_state_and_data, {reply, From, {error, disconnected}}};
handle(cast, {release, Epoch}, _, Data = #data{life = Life}) ->
    case Life =/= none andalso megaphone_life:sidecar(Life) of
        #{epoch := Epoch} -> ended(replaced, Data);
        _ -> keep_state_and_data
    end;
handle(cast, vacancy, _, #data{life = Life, epoch = Epoch}) ->
    case Life =/= none andalso megaphone_life:sidecar(Life) of
        #{} -> ok;
        _ -> megaphone_sidecars:released(Epoch)
    end,
    keep_state_and_data;
handle(cast, {standing_by, Count}, _, Data) ->
    {keep_state, Data#data{standby = Count}};
handle(cast, {frame, Frame, Size}, connected, Data = #data{life = Life}) ->
    case megaphone_life:queue({frame, Frame}, Size, Life) of
        {ok, Queued} ->
            {keep_state, Data#data{life = Queued}};
        Refused ->
            ?DEBUG("megaphone: a cast to the port program was dropped: ~ts", [Refused]),
            keep_state_and_data
    end;
handle(cast, {frame, _, _}, _, _Data) ->
    keep_state_and_data;
handle(cast, {unsubscribe, Broadcast, Pid}, State, Data = #data{subscribers = Subscribers}) ->
    case megaphone_subscribers:is_receiver(Broadcast, Pid, Subscribers) of
        true -> {keep_state, cancel(Broadcast, State, Data#data{
                    subscribers = megaphone_subscribers:remove(Broadcast, Subscribers)})};
        false -> keep_state_and_data
    end;
handle(cast, {complain, Text}, _, Data = #data{log = Log}) ->
    {keep_state, Data#data{log = megaphone_log:line(warning, <<"processes">>, Text, Log)}};
handle(cast, {reload, Options}, _, Data = #data{options = Before, restarts = Restarts}) ->
    Reloaded = Data#data{options = Options,
                         restarts = megaphone_restarts:options(Options, Restarts)},
    case maps:with(?PROGRAM_OPTIONS, Before) =:= maps:with(?PROGRAM_OPTIONS, Options) of
        true ->
            {keep_state, Reloaded};
        false ->
            ?INFO_MSG("megaphone: its options changed: it connects to the program anew", []),
            {Actions, Closed} = gone(<<"its options changed">>, ?GRACE, Reloaded),
            Anew = Closed#data{restarts = megaphone_restarts:new(Options)},
            case Options of
                #{sidecar := undefined} ->
                    {next_state, backing_off, Anew, [{state_timeout, 0, retry} | Actions]};
                _ ->
                    {next_state, waiting, Anew, Actions}
            end
    end;
handle(info, Info, State, Data = #data{life = Life}) ->
    case Life =/= none andalso megaphone_life:event(Info, Life) of
        {data, Bytes} -> received(Bytes, State, Data);
        {written, Kind, Cost} ->
            {Actions, Released} = let_on(Data#data{life = megaphone_life:written(Kind, Cost, Life)}),
            {keep_state, Released, Actions};
        {ended, Reason} -> ended(Reason, Data);
        _ -> info(Info, State, Data)
    end;
handle(_, _, _, _Data) ->
    keep_state_and_data.

%% Proxies go on once there is room.
let_on(Data = #data{life = none}) ->
    {[], Data};
let_on(Data = #data{life = Life, processes = Processes}) ->
    {Actions, Told, Released} = megaphone_processes:release(Life, Processes),
    {Actions, Data#data{life = Told, processes = Released}}.

%% What the program sent.

received(Bytes, State, Data = #data{life = Life}) ->
    case megaphone_life:data(Bytes, Life) of
        {ok, Events, Next} ->
            {NewState, NewData, Actions} = events(Events, {State, Data#data{life = Next}, []}),
            {Answers, Released} = let_on(NewData),
            {next_state, NewState, Released, Answers ++ Actions};
        {ended, Reason, Events, Next} ->
            {_, NewData, Actions} = events(Events, {State, Data#data{life = Next}, []}),
            ended(Reason, NewData, Actions)
    end.

events(Events, Acc) ->
    lists:foldl(fun event/2, Acc, Events).

event({hello, Peer}, {starting, Data, Actions}) ->
    {connected, hello(Peer, Data), [tick(0) | Actions]};
event({replies, Replies}, {State, Data, Actions}) ->
    {Answers, Pending} = lists:foldl(fun answer/2, {[], Data#data.pending}, Replies),
    {State, Data#data{pending = Pending}, Answers ++ Actions};
event({signals, Signals}, {State, Data = #data{processes = Processes}, Actions}) ->
    {State, Data#data{processes = megaphone_processes:route(Signals, Processes)}, Actions};
event({batch_done, Broadcast, N, Body}, Acc) ->
    batch(Broadcast, N, {done, Body}, Acc);
event({batch_failed, Broadcast, N, Reason, Text}, Acc) ->
    batch(Broadcast, N, {failed, Reason, Text}, Acc);
event({log, Level, Source, Text}, {State, Data = #data{log = Log}, Actions}) ->
    {State, Data#data{log = megaphone_log:line(Level, Source, Text, Log)}, Actions};
event({bad, Reason}, {State, Data = #data{log = Log}, Actions}) ->
    Text = ["a frame of the port program was dropped: ", megaphone_protocol:describe(Reason)],
    {State, Data#data{log = megaphone_log:line(warning, <<"port">>, iolist_to_binary(Text), Log)},
     Actions};
event({call, Id, Name, Request, TimeoutMs}, {State, Data = #data{answering = Calls}, Actions}) ->
    case megaphone_calls:start(Id, Name, Request, TimeoutMs, Calls) of
        {ok, Started} ->
            {State, Data#data{answering = Started}, Actions};
        {refused, Outcome} ->
            {State, Data#data{life = megaphone_life:reply(Id, Outcome, Data#data.life)}, Actions}
    end;
event({cast, _Name, _Message}, Acc) ->
    %% Version 1 has no name at the node that takes casts.
    Acc.

answer({Id, Outcome, Binary}, {Actions, Pending}) ->
    case maps:take(Id, Pending) of
        {From, Rest} ->
            {[{reply, From, {answer, Outcome, Binary}}, {{timeout, {call, Id}}, cancel} | Actions], Rest};
        error ->
            {Actions, Pending}
    end.

batch(Broadcast, N, Answer, {State, Data = #data{subscribers = Subscribers}, Actions}) ->
    case megaphone_subscribers:answer(Broadcast, N, Answer, Subscribers) of
        {ok, Next} -> {State, Data#data{subscribers = Next}, Actions};
        unwanted -> {State, Data, Actions}
    end.

hello(#{version := Version}, Data = #data{restarts = Restarts, life = Life, subscribers = Subscribers}) ->
    {How, Next} = megaphone_restarts:connected(Restarts),
    Words = case How of
                connected -> "is connected";
                back -> "is back"
            end,
    case megaphone_life:sidecar(Life) of
        none ->
            ?INFO_MSG("megaphone: the port program ~ts: version ~ts, pid ~p",
                      [Words, megaphone_log:sanitise(Version), megaphone_life:os_pid(Life)]);
        #{identity := Identity, address := Address, epoch := Epoch} ->
            ?INFO_MSG("megaphone: the sidecar ~ts, from ~ts, is the active one: version ~ts, epoch ~b",
                      [Identity, Address, megaphone_log:sanitise(Version), Epoch])
    end,
    ok = megaphone_subscribers:tell(connected, Subscribers),
    Data#data{restarts = Next, check = not_run}.

info({'DOWN', Monitor, process, _, _}, _, Data = #data{ending = {_, Monitor}}) ->
    {keep_state, Data#data{ending = none}};
info({'DOWN', Monitor, process, _, _}, _, Data = #data{check = {_, Monitor}}) ->
    {keep_state, Data#data{check = done}};
info({'DOWN', Monitor, process, _, Reason}, State, Data = #data{answering = Calls, life = Life}) ->
    case megaphone_calls:down(Monitor, Reason, Calls) of
        {Id, Outcome, Rest} when State =:= connected ->
            {keep_state, Data#data{answering = Rest, life = megaphone_life:reply(Id, Outcome, Life)}};
        error ->
            case megaphone_processes:down(Monitor, Data#data.processes) of
                {ok, Rest} ->
                    {Actions, Released} = let_on(Data#data{processes = Rest}),
                    {keep_state, Released, Actions};
                error ->
                    receiver_down(Monitor, State, Data)
            end
    end;
info({timeout, _Timer, {node_call, Monitor}}, _, #data{answering = Calls}) ->
    ok = megaphone_calls:expired(Monitor, Calls),
    keep_state_and_data;
info(_, _, _Data) ->
    keep_state_and_data.

receiver_down(Monitor, State, Data) ->
    case megaphone_subscribers:down(Monitor, Data#data.subscribers) of
        {ok, Broadcast, Rest} -> {keep_state, cancel(Broadcast, State, Data#data{subscribers = Rest})};
        error -> keep_state_and_data
    end.

%% The end of a life.

ended(Reason, Data) ->
    ended(Reason, Data, []).

ended(Reason, Data = #data{life = Life, options = #{sidecar := Sidecar}}, Before)
  when Sidecar =/= undefined ->
    #{identity := Identity} = megaphone_life:sidecar(Life),
    Text = megaphone_reason:text(Reason, sidecar),
    {Actions, Gone} = gone(Text, 0, Data),
    ?WARNING_MSG("megaphone: the sidecar ~ts is gone: ~ts; ~b stand by",
                 [Identity, Text, Data#data.standby]),
    {next_state, waiting, Gone, Before ++ Actions};
ended(Reason, Data = #data{life = Life, restarts = Restarts}, Before) ->
    Now = now_ms(),
    Connected = case Life =/= none andalso megaphone_life:connected_since(Life) of
                    Since when is_integer(Since) -> Now - Since;
                    _ -> never
                end,
    Text = megaphone_reason:text(Reason, program),
    {Actions, Gone} = gone(Text, 0, Data),
    {What, Wait, Next} =
        megaphone_restarts:failed(Now, case Connected of never -> 0; _ -> Connected end, Restarts),
    complain(What, Wait, Text, Data),
    Checked = case Connected of
                  never -> check(Reason, Gone);
                  _ -> Gone
              end,
    State = case What of
                backing_off -> backing_off;
                _ -> down
            end,
    {next_state, State, Checked#data{restarts = Next},
     Before ++ [{state_timeout, Wait, retry} | Actions]}.

%% Closes what there is of a life and tells everybody who waits for it.
gone(Text, GraceMs, Data = #data{life = Life, pending = Pending, subscribers = Subscribers}) ->
    {Proxies, Processes} = megaphone_processes:disconnected(Data#data.processes),
    Actions = lists:append([[{reply, From, {error, disconnected}}, {{timeout, {call, Id}}, cancel}]
                            || {Id, From} <- maps:to_list(Pending)])
        ++ [{reply, From, {error, disconnected}} || From <- Proxies],
    ok = megaphone_calls:stop(Data#data.answering),
    Ending = case Life of
                 none -> Data#data.ending;
                 _ -> megaphone_life:close(GraceMs, Life)
             end,
    _ = [megaphone_sidecars:released(Epoch)
         || Life =/= none, #{epoch := Epoch} <- [megaphone_life:sidecar(Life)]],
    _ = [megaphone_subscribers:tell(disconnected, Subscribers)
         || Life =/= none, megaphone_life:peer(Life) =/= none],
    {Actions, Data#data{life = none, ending = Ending, reason = Text, pending = #{},
                        processes = Processes,
                        answering = megaphone_calls:new(),
                        subscribers = megaphone_subscribers:disconnected(Subscribers)}}.

%% A program that cannot be started has no output to show.
check({start, _}, Data) -> Data;
check(_, Data = #data{check = not_run, options = Options}) ->
    Data#data{check = megaphone_check:start(Options)};
check(_, Data) -> Data.

complain(backing_off, Wait, Text, _Data) ->
    ?WARNING_MSG("megaphone: the port program is gone: ~ts; it is started again in ~b ms",
                 [Text, Wait]);
complain(down, Wait, Text, #data{options = #{python := Python}}) ->
    ?ERROR_MSG("megaphone: the port program does not stay up: ~ts. ejabberd goes on without "
               "broadcasts and tries again quietly every ~b s. What to do: ~ts",
               [Text, Wait div 1000, megaphone_reason:remedy(Python)]);
complain(still_down, _Wait, Text, _Data) ->
    ?DEBUG("megaphone: the port program is still down: ~ts", [Text]).

cancel(Broadcast, connected, Data = #data{life = Life}) ->
    {Frame, Size} = megaphone_frame:encode({batch_cancel, Broadcast}),
    case megaphone_life:queue({frame, Frame}, Size, megaphone_life:forget(Broadcast, Life)) of
        {ok, Queued} -> Data#data{life = Queued};
        %% The program formats what it has, and nobody takes the answers.
        _ -> Data#data{life = megaphone_life:forget(Broadcast, Life)}
    end;
cancel(_Broadcast, _State, Data) ->
    Data.

tick(Wait) ->
    {{timeout, tick}, Wait, tick}.

%% How often it is looked whether the program lives, and how long it may be silent. Where another one
%% could take over within the same second there is no reason to wait for long.
patience(#{heartbeat_interval := Interval, heartbeat_timeout := Timeout}, #data{standby = 0}) ->
    {Interval, Timeout};
patience(#{heartbeat_interval := Interval, heartbeat_timeout := Timeout}, _Data) ->
    {Interval div 2, min(Timeout, 2 * Interval)}.

status(State, #data{life = Life, reason = Reason, lives = Lives, processes = Processes}) ->
    Common = #{<<"state">> => atom_to_binary(State, utf8), <<"reason">> => Reason,
               <<"processes">> => megaphone_processes:count(Processes),
               <<"restarts">> => max(0, Lives - 1)},
    maps:merge(Common, case Life of
                           none -> #{<<"transport">> => undefined, <<"os_pid">> => undefined, <<"connected_seconds">> => undefined,
                                     <<"queued_bytes">> => 0, <<"credit_bytes">> => 0};
                           _ -> megaphone_life:status(Life)
                       end).

now_ms() ->
    erlang:monotonic_time(millisecond).
