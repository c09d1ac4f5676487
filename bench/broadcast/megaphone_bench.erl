%%% Sessions that cost next to nothing, for the broadcast benchmark: light processes in ejabberd's
%%% own session table that take what a client connection takes, `{route, Message}`, and count it.
%%%
%%% Each checks that the text is the one that it must get: its own, or the one for all. Both ways
%%% of sending meet the same processes, so a message costs the same at its end.
-module(megaphone_bench).

-export([prepare/2, open/1, opened/0, round/2, received/0, tally/0, close/0]).

-include("xmpp.hrl").

%% Counters that all sinks write to, each scheduler for itself: one word that every message of
%% every core writes would be a good part of what is measured.
-define(RECEIVED, 1).
-define(WRONG, 2).
-define(OPENED, 3).

-define(HELLO, "Hello ").
-define(TEXT, ", this service restarts at 22:00 UTC; please save what you are working on.").
-define(EVERYBODY, <<?HELLO "everybody" ?TEXT>>).

%% Processes that open sessions at the same time.
-define(OPENERS, 4).

-record(sink, {index :: pos_integer(),
               own :: binary(),
               %% One place for each session: the messages that it has had in this round, and
               %% when it had the last one.
               seen :: atomics:atomics_ref(),
               times :: atomics:atomics_ref(),
               counts :: counters:counters_ref()}).

%% @doc Makes room for Count sessions at Host and opens none.
-spec prepare(pos_integer(), binary()) -> ok.
prepare(Count, Host) ->
    Sink = #sink{index = 0, own = <<>>, seen = atomics:new(Count, []),
                 times = atomics:new(Count, []),
                 counts = counters:new(?OPENED, [write_concurrency])},
    Openers = [spawn(fun() -> opener(First, Host, Sink, []) end)
               || First <- lists:seq(1, ?OPENERS)],
    persistent_term:put(?MODULE, {Count, Host, Sink, Openers}).

%% @doc Begins to open sessions until there are Count of them; see opened/0.
-spec open(pos_integer()) -> ok.
open(Count) ->
    {Most, _, _, Openers} = persistent_term:get(?MODULE),
    true = Count =< Most,
    lists:foreach(fun(Opener) -> Opener ! {open, Count} end, Openers).

-spec opened() -> non_neg_integer().
opened() ->
    {_, _, #sink{counts = Counts}, _} = persistent_term:get(?MODULE),
    counters:get(Counts, ?OPENED).

%% @doc How many messages have come in this round, or since the start.
-spec received() -> non_neg_integer().
received() ->
    {_, _, #sink{counts = Counts}, _} = persistent_term:get(?MODULE),
    counters:get(Counts, ?RECEIVED).

%% @doc For broadcasts that somebody else sends: how many sessions got their text once, how many nothing,
%% how many more than one, and how many messages had another text.
-spec tally() -> {Once :: non_neg_integer(), Never :: non_neg_integer(), Twice :: non_neg_integer(),
                  Wrong :: non_neg_integer()}.
tally() ->
    {Count, _, #sink{seen = Seen, counts = Counts}, Openers} = persistent_term:get(?MODULE),
    ok = settle(Openers),
    Times = [atomics:get(Seen, Index) || Index <- lists:seq(1, Count)],
    {length([1 || 1 <- Times]), length([0 || 0 <- Times]), length([Many || Many <- Times, Many > 1]),
     counters:get(Counts, ?WRONG)}.

%% @doc Ends the sessions.
-spec close() -> ok.
close() ->
    {_, _, _, Openers} = persistent_term:get(?MODULE),
    Monitors = [monitor(process, Opener) || Opener <- Openers],
    _ = [Opener ! close || Opener <- Openers],
    _ = [receive {'DOWN', Monitor, process, _, _} -> ok end || Monitor <- Monitors],
    _ = persistent_term:erase(?MODULE),
    ok.

%% @doc One broadcast to all sessions: what it took, as JSON in Base64. Times are in seconds from
%% the moment that it was asked for. Fails unless each session got its text exactly once.
-spec round(megaphone | mod_announce, pos_integer()) -> string().
round(Way, Timeout) ->
    {Count, Host, #sink{seen = Seen, times = Times, counts = Counts}, Openers} =
        persistent_term:get(?MODULE),
    Indexes = lists:seq(1, Count),
    _ = [atomics:put(Seen, Index, 0) || Index <- Indexes],
    _ = [counters:put(Counts, Counter, 0) || Counter <- [?RECEIVED, ?WRONG]],
    Deadline = erlang:monotonic_time(millisecond) + Timeout,
    Begin = erlang:monotonic_time(),
    Done = send(Way, Host, Deadline),
    Accepted = erlang:monotonic_time(),
    ok = until(fun() -> counters:get(Counts, ?RECEIVED) >= Count end, Deadline),
    Report = Done(),
    Ended = erlang:monotonic_time(),
    %% Nothing is on its way any more once every sink has answered: what came twice has been seen.
    ok = settle(Openers),
    Delivered = counters:get(Counts, ?RECEIVED),
    Wrong = counters:get(Counts, ?WRONG),
    Uneven = [Index || Index <- Indexes, atomics:get(Seen, Index) =/= 1],
    {Count, 0, []} = {Delivered, Wrong, Uneven},
    Received = [atomics:get(Times, Index) || Index <- Indexes],
    Answer = Report#{<<"way">> => Way, <<"messages">> => Delivered,
                     <<"accepted">> => seconds(Accepted - Begin),
                     <<"first">> => seconds(lists:min(Received) - Begin),
                     <<"last">> => seconds(lists:max(Received) - Begin),
                     <<"done">> => seconds(Ended - Begin)},
    base64:encode_to_string(megaphone_json:encode(Answer)).

%% Starts it; the fun returned waits for its end and says what it says of itself.
send(megaphone, Host, Deadline) ->
    Request = megaphone_json:encode(#{<<"template">> => <<?HELLO "{{ user }}" ?TEXT>>,
                                      <<"to">> => <<"online@", Host/binary>>}),
    Answer = ejabberd_commands:execute_command2(megaphone_broadcast, [Request],
                                                #{caller_module => ejabberd_ctl}),
    {ok, #{<<"id">> := Id}} = megaphone_json:decode(iolist_to_binary(Answer)),
    fun() ->
            ok = until(fun() ->
                               {ok, #{<<"state">> := State}} = megaphone_broadcasts:find(Id),
                               State =:= <<"done">>
                       end, Deadline),
            {ok, Document} = megaphone_broadcasts:find(Id),
            maps:with([<<"recipients">>, <<"sent">>, <<"gone">>, <<"dropped">>, <<"way">>,
                       <<"resolve_seconds">>, <<"seconds">>], Document)
    end;
send(mod_announce, Host, Deadline) ->
    ejabberd_router:route(#message{type = headline,
                                   from = jid:make(<<"admin">>, Host, <<"bench">>),
                                   to = jid:make(<<>>, Host, <<"announce/online">>),
                                   body = [#text{data = ?EVERYBODY}]}),
    Announcer = gen_mod:get_module_proc(Host, mod_announce),
    fun() ->
            %% It answers when it has sent to everybody.
            _ = sys:get_state(Announcer, max(1, Deadline - erlang:monotonic_time(millisecond))),
            #{}
    end.

until(Condition, Deadline) ->
    case Condition() of
        true ->
            ok;
        false ->
            case erlang:monotonic_time(millisecond) < Deadline of
                true -> receive after 2 -> until(Condition, Deadline) end;
                false -> error(deadline)
            end
    end.

settle(Openers) ->
    Refs = [begin Ref = make_ref(), Opener ! {settle, self(), Ref}, Ref end || Opener <- Openers],
    lists:foreach(fun(Ref) -> receive {settled, Ref} -> ok end end, Refs).

seconds(Native) ->
    erlang:convert_time_unit(Native, native, nanosecond) / 1.0e9.

%% Sessions.

opener(Next, Host, Sink, Sinks) ->
    receive
        {open, Count} ->
            Indexes = lists:seq(Next, Count, ?OPENERS),
            Opened = [open(Index, Host, Sink) || Index <- Indexes],
            opener(Next + length(Indexes) * ?OPENERS, Host, Sink, Opened ++ Sinks);
        {settle, From, Ref} ->
            _ = [One ! {settle, self()} || One <- Sinks],
            _ = [receive {settled, One} -> ok end || One <- Sinks],
            From ! {settled, Ref},
            opener(Next, Host, Sink, Sinks);
        close ->
            Monitors = [begin Monitor = monitor(process, One), One ! close, Monitor end
                        || One <- Sinks],
            _ = [receive {'DOWN', Monitor, process, _, _} -> ok end || Monitor <- Monitors]
    end.

open(Index, Host, Template = #sink{counts = Counts}) ->
    Opener = self(),
    User = <<"user", (integer_to_binary(Index))/binary>>,
    Resource = <<"phone", (integer_to_binary(erlang:phash2(User), 36))/binary>>,
    Sink = spawn(fun() ->
                         Sid = ejabberd_sm:make_sid(),
                         ok = ejabberd_sm:open_session(Sid, User, Host, Resource, 0,
                                                       [{ip, {{127, 0, 0, 1}, 0}}, {conn, c2s},
                                                        {auth_module, ejabberd_auth_mnesia}]),
                         counters:add(Counts, ?OPENED, 1),
                         Opener ! {open, self()},
                         sink(Template#sink{index = Index, own = <<?HELLO, User/binary, ?TEXT>>}),
                         ejabberd_sm:close_session(Sid, User, Host, Resource)
                 end),
    receive {open, Sink} -> Sink end.

sink(Sink = #sink{index = Index, own = Own, seen = Seen, times = Times, counts = Counts}) ->
    receive
        {route, #message{body = [#text{data = Text}]}} ->
            case Text =:= Own orelse Text =:= ?EVERYBODY of
                true -> ok;
                false -> counters:add(Counts, ?WRONG, 1)
            end,
            atomics:put(Times, Index, erlang:monotonic_time()),
            atomics:add(Seen, Index, 1),
            counters:add(Counts, ?RECEIVED, 1),
            sink(Sink);
        {settle, From} ->
            From ! {settled, self()},
            sink(Sink);
        close ->
            ok;
        _ ->
            sink(Sink)
    end.
