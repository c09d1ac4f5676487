%%% The sidecars that are connected: the one whose turn it is, those that stand by, and those that
%%% have not shown yet who they are.
%%%
%%%     arriving ──joined──▶ standing by ──its turn──▶ active ──released by megaphone_port──▶ gone
%%%
%%% Each turn has an epoch, higher than any that this node or a sidecar that came to it has seen. The
%%% node cannot end a program that it has not started: one that is replaced loses its connection, and
%%% what it does after that reaches nobody.
-module(megaphone_sidecars).

-behaviour(gen_server).

-export([start_link/0, status/0, listening/1, admit/2, join/2, refused/2, released/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-include("logger.hrl").

%% Connections that have not proved anything yet; one more, and the oldest is closed: whoever holds
%% them all keeps nobody out.
-define(MAX_ARRIVING, 64).
-define(MAX_STANDBY, 16).
%% Milliseconds.
-define(CALL_TIME, 5000).
-define(STATUS_TIME, 2000).
%% For a sidecar whose turn it is, until megaphone_port has it.
-define(TURN_TIME, 2000).
%% How often it is told how many more were refused for a reason that stands in the log already.
-define(SUMMARY, 10000).

-record(sidecar, {pid :: pid(),
                  identity :: binary(),
                  instance :: binary(),
                  address :: binary(),
                  since :: integer()}).

-record(state, {listening = none :: none | listening(),
                %% Oldest first.
                arriving = [] :: [pid()],
                standby = [] :: [#sidecar{}],
                %% `unknown`: megaphone_port may have one that this process knows nothing of.
                active = unknown :: none | unknown | {Epoch :: pos_integer(), #sidecar{}},
                %% The highest epoch that anybody has seen.
                epoch = 0 :: non_neg_integer(),
                lockout = megaphone_lockout:new() :: megaphone_lockout:lockout(),
                %% Refusals since the last line about each reason.
                refused = #{} :: #{atom() => non_neg_integer()}}).

-type listening() :: {ok, binary()} | {error, binary()}.
-type refusal() :: atom() | {atom(), term()}.

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc docs/protocol.md, `sidecars`; undefined where the node starts the program itself.
-spec status() -> #{binary() => term()} | undefined.
status() ->
    try gen_server:call(?MODULE, status, ?STATUS_TIME)
    catch exit:_ -> undefined
    end.

%% @doc Where sidecars may come in, or why they may not.
-spec listening(listening()) -> ok.
listening(Listening) ->
    gen_server:cast(?MODULE, {listening, Listening}).

%% @doc A connection has come; its process is to end it where its address is locked out.
-spec admit(pid(), megaphone_lockout:address()) -> ok | {locked, Ms :: pos_integer()}.
admit(Pid, Address) ->
    gen_server:call(?MODULE, {admit, Pid, Address}, ?CALL_TIME).

%% @doc The calling process's sidecar knows the secret: from now on it stands by.
-spec join(megaphone_handshake:claim(), megaphone_lockout:address()) ->
          ok | {refused, busy | {identity, binary()}}.
join(Claim, Address) ->
    gen_server:call(?MODULE, {join, Claim, Address}, ?CALL_TIME).

%% @doc A connection was refused.
-spec refused(refusal(), megaphone_lockout:address()) -> ok.
refused(Reason, Address) ->
    gen_server:cast(?MODULE, {refused, Reason, Address}).

%% @doc megaphone_port has no sidecar any more; the last one that it had was of this epoch.
-spec released(non_neg_integer()) -> ok.
released(Epoch) ->
    gen_server:cast(?MODULE, {released, Epoch}).

%% @private
-spec init([]) -> {ok, #state{}}.
init([]) ->
    ok = megaphone_port:standing_by(0),
    ok = megaphone_port:vacancy(),
    {ok, #state{}}.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call(status, _From, State) ->
    {reply, document(State), State};
handle_call({admit, Pid, Address}, _From, State = #state{arriving = Arriving, lockout = Lockout}) ->
    _ = monitor(process, Pid),
    Kept = case length(Arriving) >= ?MAX_ARRIVING of
               true ->
                   close(hd(Arriving)),
                   tl(Arriving);
               false ->
                   Arriving
           end,
    Crowded = case Kept of
                  Arriving -> State;
                  _ -> tell(crowd, Address, State)
              end,
    {reply, case megaphone_lockout:locked(now_ms(), Address, Lockout) of
                false -> ok;
                Ms -> {locked, Ms}
            end, Crowded#state{arriving = Kept ++ [Pid]}};
handle_call({join, Claim, Address}, {Pid, _}, State) ->
    join(Pid, Claim, megaphone_endpoint:describe(Address), State);
handle_call(_Request, _From, State) ->
    {reply, {error, badarg}, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({listening, Listening}, State) ->
    {noreply, State#state{listening = Listening}};
handle_cast({refused, secret, Address}, State = #state{lockout = Lockout}) ->
    {Outcome, Next} = megaphone_lockout:failed(now_ms(), Address, Lockout),
    {noreply, tell(case Outcome of
                       failed -> secret;
                       locked -> locking
                   end, Address, State#state{lockout = Next})};
handle_cast({refused, Reason, Address}, State) ->
    {noreply, tell(Reason, Address, State)};
handle_cast({released, Last}, State = #state{active = unknown, epoch = Epoch}) ->
    {noreply, next(State#state{active = none, epoch = max(Epoch, Last)})};
handle_cast({released, Epoch}, State = #state{active = {Epoch, _}}) ->
    {noreply, next(State#state{active = none})};
handle_cast(_Message, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({'DOWN', _, process, Pid, Reason}, State = #state{active = {_, #sidecar{pid = Pid}}}) ->
    case Reason of
        %% From now on megaphone_port says how it goes on.
        {shutdown, adopted} -> {noreply, State};
        {shutdown, busy} ->
            ok = megaphone_port:vacancy(),
            {noreply, State#state{active = unknown}};
        _ -> {noreply, next(State#state{active = none})}
    end;
handle_info({'DOWN', _, process, Pid, _}, State = #state{arriving = Arriving, standby = Standby}) ->
    {noreply, standing_by(State#state{arriving = lists:delete(Pid, Arriving),
                                      standby = lists:keydelete(Pid, #sidecar.pid, Standby)})};
%% Gone by now, unless something keeps it from its turn: then it keeps nobody else from his.
handle_info({turn, Pid}, State) ->
    true = close(Pid),
    {noreply, State};
handle_info({summary, Reason}, State = #state{refused = Refused}) ->
    case Refused of
        #{Reason := 0} ->
            {noreply, State#state{refused = maps:remove(Reason, Refused)}};
        #{Reason := More} ->
            ?WARNING_MSG("megaphone: ~b more connections of the kind were refused: ~ts",
                         [More, what(Reason)]),
            {noreply, summarise(Reason, State)}
    end;
handle_info(_Message, State) ->
    {noreply, State}.

%% Who it is.

join(Pid, #{identity := Identity, instance := Instance, epoch := Seen}, Address,
     State = #state{arriving = Arriving, standby = Standby, active = Active, epoch = Epoch}) ->
    Known = [Sidecar || Sidecar <- Standby ++ [One || {_, One} <- [Active]],
                        Sidecar#sidecar.identity =:= Identity],
    case [Other || Other <- Known, Other#sidecar.instance =/= Instance] of
        [#sidecar{address = Where} | _] ->
            Text = <<"a sidecar named ", Identity/binary, " is connected already, from ", Where/binary,
                     ": give each a state_dir of its own, or set sidecar.identity">>,
            {reply, {refused, {identity, Text}}, State};
        [] when length(Standby) >= ?MAX_STANDBY, Known =:= [] ->
            {reply, {refused, busy}, State};
        [] ->
            %% The same process again: it has lost its connection before the node has.
            Left = [One || One <- Standby, not replaced(One, Known)],
            _ = [megaphone_port:release(Turn) || {Turn, One} <- [Active], lists:member(One, Known)],
            New = #sidecar{pid = Pid, identity = Identity, instance = Instance, address = Address,
                           since = now_ms()},
            {reply, ok, next(State#state{arriving = lists:delete(Pid, Arriving), standby = Left ++ [New],
                                         epoch = max(Epoch, Seen)})}
    end.

replaced(Sidecar = #sidecar{pid = Pid}, Known) ->
    lists:member(Sidecar, Known) andalso close(Pid).

%% It traps no exits, whatever it waits for; and `shutdown` is none that its supervisor logs.
close(Pid) ->
    exit(Pid, shutdown).

%% Whose turn it is: who stands by longest.

next(State = #state{active = none, standby = [Next = #sidecar{pid = Pid} | Rest], epoch = Epoch}) ->
    ok = megaphone_sidecar:activate(Pid, Epoch + 1),
    _ = erlang:send_after(?TURN_TIME, self(), {turn, Pid}),
    ok = megaphone_counts:add(sidecar_turns),
    standing_by(State#state{active = {Epoch + 1, Next}, standby = Rest, epoch = Epoch + 1});
next(State) ->
    standing_by(State).

standing_by(State = #state{standby = Standby}) ->
    ok = megaphone_port:standing_by(length(Standby)),
    State.

%% What the operator reads.

%% One line for each reason, and how many more there were now and then: whoever connects again and
%% again does not fill the log.
tell(Reason, Address, State = #state{refused = Refused}) ->
    Kind = kind(Reason),
    ok = megaphone_counts:add(counter(Kind)),
    case Refused of
        #{Kind := Count} ->
            State#state{refused = Refused#{Kind := Count + 1}};
        _ ->
            ?WARNING_MSG("megaphone: a connection from ~ts was refused: ~ts",
                         [megaphone_endpoint:describe(Address), detail(Reason)]),
            summarise(Kind, State)
    end.

summarise(Kind, State = #state{refused = Refused}) ->
    _ = erlang:send_after(?SUMMARY, self(), {summary, Kind}),
    State#state{refused = Refused#{Kind => 0}}.

kind({Reason, _}) -> Reason;
kind(Reason) -> Reason.

counter(secret) -> refused_secret;
counter(locking) -> refused_secret;
counter(locked_out) -> refused_locked_out;
counter(identity) -> refused_identity;
counter(Kind) when Kind =:= http; Kind =:= garbage; Kind =:= protocol; Kind =:= version; Kind =:= tls ->
    refused_protocol;
counter(Kind) when Kind =:= silent; Kind =:= closed; Kind =:= crowd -> refused_silent;
counter(_) -> refused_other.

detail({no_secret, Text}) -> megaphone_log:sanitise(iolist_to_binary(Text));
detail({identity, Text}) -> megaphone_log:sanitise(Text);
detail(Reason) -> what(kind(Reason)).

what(secret) -> "its secret is not that of sidecar.secret_file";
what(locking) -> "five wrong secrets within a minute: its address is locked out for a minute";
what(locked_out) -> "its address is locked out, for wrong secrets";
what(no_secret) -> "sidecar.secret_file holds no secret";
what(identity) -> "a sidecar of the same name is connected already";
what(busy) -> "as many sidecars stand by as may";
what(version) -> "it speaks another version of the handshake: upgrade the older of the two";
what(http) -> "it speaks HTTP, and this is no port for that: metrics are at the sidecar's own";
what(garbage) -> "what it says is no handshake of a sidecar's";
what(protocol) -> "it stood by and sent more than heartbeats";
what(silent) -> "it said nothing for five seconds";
what(closed) -> "it closed in the middle of the handshake";
what(tls) -> "there was no TLS handshake with it";
what(certificate) -> "the node's certificate cannot be used: set sidecar.certfile to a PEM file with the "
                     "certificate and its key";
what(crowd) -> "too many connections say nothing: the oldest of them is closed for each new one".

document(#state{listening = Listening, standby = Standby, active = Active, epoch = Epoch}) ->
    {Where, Error} = case Listening of
                         {ok, Name} -> {Name, undefined};
                         {error, Text} -> {undefined, Text};
                         none -> {undefined, undefined}
                     end,
    #{<<"listening">> => Where, <<"error">> => Error, <<"epoch">> => Epoch,
      <<"connected">> => [described(<<"active">>, One) || {_, One} <- [Active]]
          ++ [described(<<"standby">>, One) || One <- Standby]}.

described(State, #sidecar{identity = Identity, address = Address, since = Since}) ->
    #{<<"identity">> => Identity, <<"address">> => Address, <<"state">> => State,
      <<"seconds">> => (now_ms() - Since) / 1000}.

now_ms() ->
    erlang:monotonic_time(millisecond).
