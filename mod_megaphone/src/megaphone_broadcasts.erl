%%% What broadcasts there are, running and past. Accepting one runs in the caller's process;
%%% this process only hands out identities, counts who runs, and remembers how each ended.
-module(megaphone_broadcasts).

-behaviour(gen_server).

-export([start_link/0, accept/1, list/0, find/1, ended/2, metrics/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-include("logger.hrl").
-include("xmpp.hrl").

%% Broadcasts that ended and are still shown.
-define(KEPT, 100).
%% Milliseconds: for the workers to compile and try a template, and for this process to answer.
-define(PREPARE_TIME, 15000).
-define(TIME, 5000).
%% Milliseconds without any progress after which a broadcast fails.
-define(STALL, 600000).

-record(broadcast, {id :: binary(),
                    %% What does not change, as docs/protocol.md has it.
                    facts :: #{binary() => term()},
                    progress :: megaphone_progress:progress(),
                    begun :: integer(),
                    ended = running :: running | {done | failed, binary() | undefined, float()}}).

-record(state, {running = #{} :: #{reference() => binary()},
                %% Of the last identity: they ascend, whatever the clock does.
                last = 0 :: non_neg_integer()}).

-type document() :: #{binary() => term()}.

-spec start_link() -> {ok, pid()} | {error, term()} | ignore.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Checks a request as decoded from JSON, lets a worker try its templates, and starts it.
%% Answers what `broadcasts` of docs/protocol.md says of it.
-spec accept(term()) -> {ok, document()} | {error, megaphone_request:refusal()}.
accept(Decoded) ->
    case megaphone_request:parse(Decoded) of
        {ok, Request = #{scope := Scope}} ->
            case megaphone_audience:check(Scope) of
                ok -> prepare(Request);
                Error -> Error
            end;
        Error ->
            Error
    end.

%% @doc Newest first.
-spec list() -> [document()].
list() ->
    try ets:tab2list(?MODULE) of
        Broadcasts -> [document(Broadcast) || Broadcast <- lists:reverse(Broadcasts)]
    catch
        %% The tree is down.
        error:badarg -> []
    end.

-spec find(binary()) -> {ok, document()} | error.
find(Id) ->
    try ets:lookup(?MODULE, Id) of
        [Broadcast] -> {ok, document(Broadcast)};
        [] -> error
    catch
        error:badarg -> error
    end.

%% @doc How many are not over, by state.
-spec metrics() -> megaphone_metrics:metrics().
metrics() ->
    Running = [megaphone_progress:state(Progress)
               || #broadcast{progress = Progress, ended = running} <- ets:tab2list(?MODULE)],
    #{<<"broadcasts">> => [{atom_to_binary(State, utf8), length([1 || Of <- Running, Of =:= State])}
                           || State <- megaphone_progress:states()]}.

%% @doc Said by a fan-out when it has ended.
-spec ended(binary(), done | {failed, Text :: binary()}) -> ok.
ended(Id, Result) ->
    gen_server:cast(?MODULE, {ended, Id, Result}).

%% Accepting.

prepare(Request = #{templates := Templates}) ->
    case megaphone_port:call(<<"fanout">>, {prepare, Templates}, ?PREPARE_TIME) of
        {ok, {ok, #{<<"columns">> := Names}}} ->
            start(Names, Request);
        {ok, {invalid, Index, Text}} when is_integer(Index), is_binary(Text) ->
            Field = case Index of
                        1 -> <<"subject">>;
                        _ -> <<"template">>
                    end,
            {error, megaphone_request:refuse(Field, Text, <<"mend the template">>)};
        {ok, _} ->
            {error, unready(<<"the port program answers something else than version 1 does">>,
                            <<"attach the same version of Megaphone to node and Python">>)};
        {error, disconnected} ->
            {error, unready(<<"the port program is not connected">>,
                            <<"see the port's reason in megaphone status, and try again">>)};
        {error, {_, Text}} ->
            {error, unready([<<"the port program refuses: ">>, Text], <<"see the node's log">>)};
        {error, Reason} ->
            {error, unready([<<"the templates could not be tried: ">>, atom_to_binary(Reason, utf8)],
                            <<"try again; see the workers in megaphone status">>)}
    end.

unready(What, Remedy) ->
    megaphone_request:refuse(undefined, What, Remedy).

start(Names, Request = #{type := Type, from := From}) ->
    Message = #message{type = Type, from = From},
    Way = megaphone_delivery:way(Message),
    Known = [<<"user">>, <<"server">>] ++ [<<"resource">> || Way =:= session],
    case [Name || Name <- Names, not lists:member(Name, Known)] of
        [] ->
            Limits = #{most => mod_megaphone:option(max_broadcasts),
                       batch_size => mod_megaphone:option(batch_size),
                       batches_in_flight => mod_megaphone:option(batches_in_flight)},
            started(call({start, Request#{names => Names, message => Message}, Limits}), Limits);
        [Name | _] ->
            {error, megaphone_request:refuse(
                      <<"template">>,
                      [Name, <<" is not known for a message of type ">>, atom_to_binary(Type, utf8),
                       <<", which goes to accounts">>],
                      <<"do not use it, or send a headline, which goes to each session">>)}
    end.

started({ok, Id}, _) ->
    {ok, Document} = find(Id),
    {ok, Document};
started({error, full}, #{most := Most}) ->
    {error, unready(io_lib:format("~b broadcasts are running, and max_broadcasts is ~b", [Most, Most]),
                    <<"wait until one has ended, or raise max_broadcasts">>)};
started({error, _}, _) ->
    {error, unready(<<"mod_megaphone is stopping or overloaded">>, <<"try again">>)}.

call(Request) ->
    try gen_server:call(?MODULE, Request, ?TIME)
    catch exit:_ -> {error, unavailable}
    end.

document(#broadcast{id = Id, facts = Facts, progress = Progress, begun = Begun, ended = Ended}) ->
    Moving = maps:merge(megaphone_progress:to_map(Progress), Facts#{<<"id">> => Id}),
    case Ended of
        running ->
            Moving#{<<"error">> => undefined, <<"seconds">> => seconds_since(Begun)};
        {State, Error, Seconds} ->
            Moving#{<<"state">> => atom_to_binary(State, utf8), <<"error">> => Error,
                    <<"seconds">> => Seconds}
    end.

%% Callbacks.

%% @private
-spec init([]) -> {ok, #state{}}.
init([]) ->
    ?MODULE = ets:new(?MODULE, [named_table, ordered_set, protected, {read_concurrency, true},
                                {keypos, #broadcast.id}]),
    {ok, #state{}}.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call({start, _, #{most := Most}}, _From, State = #state{running = Running})
  when map_size(Running) >= Most ->
    {reply, {error, full}, State};
handle_call({start, Request, Limits}, _From, State = #state{running = Running, last = Last}) ->
    Now = max(Last + 1, erlang:system_time(millisecond)),
    Id = identity(Now),
    #{templates := Templates, names := Names, scope := Scope, message := Message} = Request,
    Progress = megaphone_progress:new(),
    Options = maps:merge(maps:with([batch_size, batches_in_flight], Limits),
                         #{id => Id, templates => Templates, names => Names, scope => Scope,
                           message => Message#message{id = Id}, progress => Progress,
                           stall_timeout => maps:get(stall_timeout, Request, ?STALL)}),
    true = ets:insert(?MODULE, #broadcast{id = Id, facts = facts(Message), progress = Progress,
                                          begun = erlang:monotonic_time()}),
    case megaphone_fanout_sup:start_fanout(Options) of
        {ok, Pid} ->
            Monitor = erlang:monitor(process, Pid),
            {reply, {ok, Id}, State#state{running = Running#{Monitor => Id}, last = Now}};
        {error, _} = Error ->
            true = ets:delete(?MODULE, Id),
            {reply, Error, State}
    end;
handle_call(_, _From, State) ->
    {reply, {error, unknown}, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({ended, Id, Result}, State) ->
    ok = finish(Id, Result),
    {noreply, State};
handle_cast(_, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({'DOWN', Monitor, process, _, Reason}, State = #state{running = Running}) ->
    case maps:take(Monitor, Running) of
        {Id, Rest} ->
            %% It has said itself how it ended, unless it crashed.
            ok = finish(Id, {failed, crash(Reason)}),
            ok = forget(map_size(Rest)),
            {noreply, State#state{running = Rest}};
        error ->
            {noreply, State}
    end;
handle_info(_, State) ->
    {noreply, State}.

facts(Message = #message{type = Type}) ->
    #{<<"type">> => atom_to_binary(Type, utf8),
      <<"way">> => atom_to_binary(megaphone_delivery:way(Message), utf8),
      <<"started">> => erlang:system_time(millisecond) / 1000}.

finish(Id, Result) ->
    case ets:lookup(?MODULE, Id) of
        [Broadcast = #broadcast{ended = running, begun = Begun}] ->
            {State, Error} = case Result of
                                 done -> {done, undefined};
                                 {failed, Text} -> {failed, Text}
                             end,
            Ended = Broadcast#broadcast{ended = {State, Error, seconds_since(Begun)}},
            true = ets:insert(?MODULE, Ended),
            ok = megaphone_counts:add(case State of
                                          done -> broadcasts_done;
                                          failed -> broadcasts_failed
                                      end),
            tell(document(Ended));
        _ ->
            ok
    end.

tell(#{<<"id">> := Id, <<"state">> := State, <<"error">> := Error, <<"recipients">> := Recipients,
       <<"sent">> := Sent, <<"gone">> := Gone, <<"dropped">> := Dropped, <<"failed">> := Failed,
       <<"seconds">> := Seconds}) ->
    Format = "megaphone: a broadcast is over broadcast=~ts outcome=~ts recipients=~b sent=~b gone=~b "
             "dropped=~b failed=~b seconds=~.3f",
    Args = [Id, State, Recipients, Sent, Gone, Dropped, Failed, Seconds],
    case Error of
        undefined -> ?INFO_MSG(Format, Args);
        _ ->
            Quoted = megaphone_json:encode(megaphone_log:sanitise(Error)),
            ?WARNING_MSG(Format ++ " error=~ts", Args ++ [Quoted])
    end.

crash(shutdown) -> <<"mod_megaphone was stopped">>;
crash({shutdown, _}) -> crash(shutdown);
crash(killed) -> <<"its process was killed">>;
crash(_) -> <<"its process crashed; see the node's log">>.

%% The oldest go first; those that run are not counted and never forgotten.
forget(Running) ->
    case ets:info(?MODULE, size) - Running > ?KEPT of
        true -> forget_first(ets:first(?MODULE));
        false -> ok
    end.

forget_first('$end_of_table') ->
    ok;
forget_first(Id) ->
    case ets:lookup_element(?MODULE, Id, #broadcast.ended) of
        running ->
            forget_first(ets:next(?MODULE, Id));
        _ ->
            true = ets:delete(?MODULE, Id),
            ok
    end.

%% Milliseconds since 1970 and a random end, in digits and letters that sort as the time does.
identity(Milliseconds) ->
    Random = binary:decode_unsigned(crypto:strong_rand_bytes(4)) rem (36 * 36 * 36),
    <<(digits(Milliseconds, 9))/binary, (digits(Random, 3))/binary>>.

digits(Number, Width) ->
    Text = string:lowercase(integer_to_list(Number, 36)),
    list_to_binary(string:pad(Text, Width, leading, $0)).

seconds_since(Begun) ->
    (erlang:monotonic_time() - Begun) / erlang:convert_time_unit(1, second, native).
