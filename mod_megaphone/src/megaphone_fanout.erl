%%% One running broadcast.
%%%
%%% It freezes its audience, then keeps a few batches at the port. A batch stays here until its
%%% answer is handed to a process that delivers it: what was at the port when that went down is
%%% asked for again, and an answer that is not waited for is ignored, so nobody is skipped and
%%% nobody gets it twice.
-module(megaphone_fanout).

-behaviour(gen_server).

-export([start_link/1]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, format_status/1]).
-export_type([options/0]).

-include("logger.hrl").
-include("xmpp.hrl").

%% Milliseconds after which a batch that the port had no room for is tried again; an answer that
%% arrives earlier tries it at once.
-define(OVERLOAD_RETRY, 250).
%% Milliseconds after which a lost port owner is looked for.
-define(OWNER_RETRY, 500).
%% Batches of one broadcast that are delivered at the same time; not more than there are schedulers.
%% A single process waits in its scheduler's queue behind those that it has woken, and the others
%% have nothing to do meanwhile.
-define(MAX_DELIVERING, 4).

-type options() :: #{id := binary(),
                     templates := [binary(), ...],
                     names := [binary()],
                     scope := megaphone_request:scope(),
                     message := message(),
                     progress := megaphone_progress:progress(),
                     batch_size := pos_integer(),
                     batches_in_flight := pos_integer(),
                     %% Milliseconds without any progress after which it fails.
                     stall_timeout := pos_integer()}.

-record(state, {options :: options(),
                way :: megaphone_delivery:way(),
                table :: megaphone_audience:table(),
                %% Numbers of the batches that are not at the port.
                ready = [] :: [non_neg_integer()],
                at_port = #{} :: #{non_neg_integer() => true},
                %% Answers that wait for a process to deliver them, the first to come first.
                formatted = [] :: [{non_neg_integer(), Body :: binary()}],
                delivering = [] :: [pid()],
                %% Why it fails, once what is being delivered has been.
                failure = none :: none | iodata(),
                %% The next number that no batch has had.
                fresh = 0 :: non_neg_integer(),
                port = disconnected :: connected | disconnected | overloaded,
                owner = none :: none | reference(),
                moved = 0 :: integer()}).

-spec start_link(options()) -> {ok, pid()} | {error, term()} | ignore.
start_link(Options) ->
    %% Little lives longer than a batch, and what does refers to whole columns.
    gen_server:start_link(?MODULE, Options, [{spawn_opt, [{fullsweep_after, 10}]}]).

%% Callbacks.

%% @private
-spec init(options()) -> {ok, #state{}, {continue, freeze}}.
init(Options = #{message := Message}) ->
    %% Mailbox and heap hold message bodies: no crash report, trace or dump may show them.
    _ = process_flag(sensitive, true),
    _ = process_flag(message_queue_data, off_heap),
    {ok, #state{options = Options, way = megaphone_delivery:way(Message),
                table = ets:new(?MODULE, [set, private])},
     {continue, freeze}}.

%% @private
-spec handle_continue(freeze, #state{}) -> {noreply, #state{}} | {stop, normal, #state{}}.
handle_continue(freeze, State) ->
    megaphone_log:guarded(fun() ->
                                  tell_accepted(State),
                                  freeze(State)
                          end).

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}}.
handle_call(_, _, State) ->
    {noreply, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) ->
          {noreply, #state{}} | {noreply, #state{}, hibernate} | {stop, normal, #state{}}.
handle_info(Info, State) ->
    megaphone_log:guarded(fun() -> info(Info, State) end).

%% @private
-spec format_status(gen_server:format_status()) -> gen_server:format_status().
format_status(Status) ->
    maps:map(fun(state, #state{options = #{id := Id}, ready = Ready, at_port = AtPort, port = Port}) ->
                     #{id => Id, ready => length(Ready), at_port => maps:keys(AtPort), port => Port};
                (state, _) -> hidden;
                (message, _) -> hidden;
                (log, Log) -> [hidden || _ <- Log];
                (_, Value) -> Value
             end, Status).

%% The audience.

freeze(State = #state{options = Options, way = Way, table = Table}) ->
    #{scope := Scope, batch_size := Size, progress := Progress} = Options,
    Resolved = fun(Count) ->
                       megaphone_progress:add(recipients, Count, Progress),
                       megaphone_progress:add(batches, 1, Progress)
               end,
    Begin = erlang:monotonic_time(microsecond),
    #{batches := Batches, left_out := LeftOut} =
        megaphone_audience:freeze(Scope, megaphone_delivery:unit(Way), Size, Table, Resolved),
    Resolving = erlang:monotonic_time(microsecond) - Begin,
    ok = megaphone_progress:resolved(Resolving, Progress),
    ok = megaphone_counts:observe(resolve, Resolving),
    ok = megaphone_progress:add(recipients, LeftOut, Progress),
    ok = megaphone_progress:add(dropped, LeftOut, Progress),
    %% What the walk left behind would stay for as long as the broadcast runs.
    true = erlang:garbage_collect(),
    tell_resolved(Options),
    ok = look_for_stall(State),
    subscribe(moved(State#state{ready = lists:seq(0, Batches - 1), fresh = Batches})).

tell_accepted(#state{options = #{id := Id, message := #message{type = Type}}, way = Way}) ->
    ?INFO_MSG("megaphone: a broadcast was accepted broadcast=~ts type=~ts way=~ts", [Id, Type, Way]).

tell_resolved(#{id := Id, progress := Progress}) ->
    #{<<"recipients">> := Recipients, <<"batches">> := Batches, <<"resolve_seconds">> := Seconds} =
        megaphone_progress:to_map(Progress),
    ?INFO_MSG("megaphone: an audience was resolved broadcast=~ts recipients=~b batches=~b seconds=~.3f",
              [Id, Recipients, Batches, Seconds]).

%% Events.

info({megaphone_batch, Id, N, Answer}, State = #state{options = #{id := Id}, at_port = AtPort}) ->
    case maps:take(N, AtPort) of
        {true, Rest} -> answered(N, Answer, moved(State#state{at_port = Rest}));
        error -> {noreply, State}
    end;
info({megaphone_delivered, Pid, Result}, State = #state{delivering = Delivering}) ->
    delivered(Result, moved(State#state{delivering = lists:delete(Pid, Delivering)}));
info({megaphone_port, connected}, State) ->
    pump(again(State#state{port = connected}));
info({megaphone_port, disconnected}, State) ->
    pump(again(State#state{port = disconnected}));
info({timeout, _, overload}, State = #state{port = overloaded}) ->
    pump(State#state{port = connected});
info({timeout, _, owner}, State = #state{owner = none}) ->
    subscribe(State);
info({timeout, _, stall}, State = #state{options = #{stall_timeout := Stall}, moved = Moved}) ->
    case erlang:monotonic_time(millisecond) - Moved >= Stall of
        true ->
            fail(io_lib:format("nothing moved for ~b seconds; ~ts",
                               [Stall div 1000,
                                case State#state.port of
                                    disconnected -> "the port program was not connected";
                                    _ -> "the port program did not answer"
                                end]), State);
        false ->
            ok = look_for_stall(State),
            {noreply, State}
    end;
info({'DOWN', Owner, process, _, _}, State = #state{owner = Owner}) ->
    ok = later(?OWNER_RETRY, owner),
    pump(again(State#state{port = disconnected, owner = none}));
info(_, State) ->
    {noreply, State}.

subscribe(State = #state{options = #{id := Id}}) ->
    Owner = erlang:monitor(process, megaphone_port),
    try megaphone_port:subscribe(Id) of
        {ok, Port} -> pump(State#state{port = Port, owner = Owner})
    catch
        error:{megaphone_port, _} ->
            true = erlang:demonitor(Owner, [flush]),
            ok = later(?OWNER_RETRY, owner),
            pump(State#state{port = disconnected, owner = none})
    end.

%% What was at the port is to be asked for again.
again(State = #state{ready = Ready, at_port = AtPort}) ->
    State#state{ready = maps:keys(AtPort) ++ Ready, at_port = #{}}.

%% To the port.

%% Delivers and sends what may be; ends the broadcast when nothing is left.
pump(State = #state{failure = none}) ->
    case send(deliver(State)) of
        {ok, #state{ready = [], at_port = AtPort, formatted = [], delivering = []} = Done}
          when map_size(AtPort) =:= 0 ->
            finish(done, Done);
        {ok, Next = #state{port = disconnected, delivering = []}} ->
            %% There is nothing to do until the port is back.
            ok = progress_state(waiting, Next),
            {noreply, Next, hibernate};
        {ok, Next} ->
            ok = progress_state(running, Next),
            {noreply, Next};
        {failed, Text, Next} ->
            fail(Text, Next)
    end;
pump(State) ->
    fail(State).

send(State = #state{options = #{batches_in_flight := Most}, port = connected, at_port = AtPort,
                    formatted = Formatted, ready = [N | Rest], table = Table})
  when map_size(AtPort) + length(Formatted) < Most ->
    #{id := Id, templates := Templates, names := Names} = State#state.options,
    [{N, Batch}] = ets:lookup(Table, N),
    case megaphone_port:send_batch(Id, N, megaphone_batch:request(Templates, Names, Batch)) of
        ok ->
            send(State#state{ready = Rest, at_port = AtPort#{N => true}});
        {error, overload} ->
            ok = later(?OVERLOAD_RETRY, overload),
            {ok, State#state{port = overloaded}};
        {error, disconnected} ->
            {ok, State#state{port = disconnected}};
        {error, too_large} ->
            case halve(N, Batch, State#state{ready = Rest}) of
                {ok, Halved} -> send(Halved);
                Failed -> Failed
            end
    end;
send(State) ->
    {ok, State}.

%% The halves get numbers of their own: an answer to the whole can never be taken for theirs.
halve(N, Batch, State = #state{table = Table, ready = Ready, fresh = Fresh, options = Options}) ->
    case megaphone_batch:halves(Batch) of
        {One, Other} ->
            true = ets:insert(Table, [{Fresh, One}, {Fresh + 1, Other}]),
            true = ets:delete(Table, N),
            ok = megaphone_progress:add(batches, 1, maps:get(progress, Options)),
            {ok, State#state{ready = [Fresh, Fresh + 1 | Ready], fresh = Fresh + 2}};
        single ->
            {failed, <<"the text of one recipient alone does not fit in a frame; "
                       "shorten the template">>, State}
    end.

%% From the port.

answered(N, {done, Body}, State = #state{formatted = Formatted}) ->
    pump(relieved(State#state{formatted = Formatted ++ [{N, Body}]}));
answered(N, {failed, too_large, _}, State = #state{table = Table}) ->
    [{N, Batch}] = ets:lookup(Table, N),
    case halve(N, Batch, State) of
        {ok, Halved} -> pump(relieved(Halved));
        {failed, Text, Same} -> fail(Text, Same)
    end;
answered(_, {failed, Reason, Text}, State) ->
    fail([reason(Reason), ": ", Text], State).

%% To the people.

deliver(State = #state{options = Options, way = Way, table = Table,
                       formatted = [{N, Body} | Rest], delivering = Delivering}) ->
    case length(Delivering) < min(?MAX_DELIVERING, erlang:system_info(schedulers_online)) of
        true ->
            #{templates := Templates, message := Message} = Options,
            [{N, Batch}] = ets:take(Table, N),
            Pid = megaphone_delivery:start_link(Way, Message, Batch, length(Templates), Body),
            deliver(State#state{formatted = Rest, delivering = [Pid | Delivering]});
        false ->
            State
    end;
deliver(State) ->
    State.

delivered({ok, {Sent, Gone, Dropped}}, State = #state{options = #{progress := Progress}}) ->
    ok = megaphone_progress:add(sent, Sent, Progress),
    ok = megaphone_progress:add(gone, Gone, Progress),
    ok = megaphone_progress:add(dropped, Dropped, Progress),
    ok = megaphone_progress:add(batches_done, 1, Progress),
    pump(State);
delivered({error, Text}, State) ->
    fail(Text, State).

relieved(State = #state{port = overloaded}) -> State#state{port = connected};
relieved(State) -> State.

reason(timeout) -> "a batch took longer than a worker may take";
reason(memory) -> "a template wants more memory than a worker may have";
reason(crash) -> "the workers died of a batch";
reason(bad_batch) -> "a worker did not understand a batch";
reason(Reason) -> atom_to_binary(Reason, utf8).

%% The end.

%% What is being delivered counts as what becomes of it.
fail(Text, State = #state{failure = none}) ->
    fail(State#state{failure = Text});
fail(_, State) ->
    fail(State).

fail(State = #state{delivering = [_ | _]}) ->
    {noreply, State#state{ready = [], at_port = #{}, formatted = []}};
fail(State = #state{failure = Text, options = #{progress := Progress}}) ->
    Left = lists:foldl(fun(Counter, Rest) -> Rest - megaphone_progress:count(Counter, Progress) end,
                       megaphone_progress:count(recipients, Progress), [sent, gone, dropped]),
    ok = megaphone_progress:add(failed, Left, Progress),
    finish({failed, unicode:characters_to_binary(Text)}, State).

finish(Result, State = #state{options = #{id := Id}}) ->
    ok = megaphone_port:unsubscribe(Id),
    ok = megaphone_broadcasts:ended(Id, Result),
    {stop, normal, State}.

moved(State) ->
    State#state{moved = erlang:monotonic_time(millisecond)}.

look_for_stall(#state{options = #{stall_timeout := Stall}}) ->
    later(max(1, Stall div 10), stall).

later(Milliseconds, What) ->
    _ = erlang:start_timer(Milliseconds, self(), What),
    ok.

progress_state(What, #state{options = #{progress := Progress}}) ->
    megaphone_progress:state(What, Progress).
