%%% Sessions that cost next to nothing, for the broadcast benchmark: light processes in ejabberd's
%%% own session table that take what a client connection takes, `{route, Message}`, and count it.
%%%
%%% Each checks that the text is the one that it must get: its own, or the one for all. Both ways
%%% of sending meet the same processes, so a message costs the same at its end.
-module(megaphone_bench).

-export([start/2, opened/0, round/2, close/0]).

-include("xmpp.hrl").

%% Places in the board that all sinks write to.
-define(COUNT, 1).
-define(FIRST, 2).
-define(LAST, 3).
-define(WRONG, 4).
-define(TARGET, 5).
-define(OPENED, 6).

-define(HELLO, "Hello ").
-define(TEXT, ", this service restarts at 22:00 UTC; please save what you are working on.").
-define(EVERYBODY, <<?HELLO "everybody" ?TEXT>>).

%% Processes that open sessions at the same time.
-define(OPENERS, 4).

-record(sink, {index :: pos_integer(),
               own :: binary(),
               %% One place for each session: the messages that it has had in this round.
               seen :: atomics:atomics_ref(),
               board :: atomics:atomics_ref()}).

%% @doc Begins to open Count sessions at Host; see opened/0.
-spec start(pos_integer(), binary()) -> ok.
start(Count, Host) ->
    Seen = atomics:new(Count, []),
    Board = atomics:new(?OPENED, []),
    Openers = [spawn(fun() -> opener(First, Count, Host, Seen, Board) end)
               || First <- lists:seq(1, ?OPENERS)],
    persistent_term:put(?MODULE, {Count, Host, Seen, Board, Openers}).

-spec opened() -> non_neg_integer().
opened() ->
    {_, _, _, Board, _} = persistent_term:get(?MODULE),
    atomics:get(Board, ?OPENED).

%% @doc Ends the sessions.
-spec close() -> ok.
close() ->
    {_, _, _, _, Openers} = persistent_term:get(?MODULE),
    Monitors = [monitor(process, Opener) || Opener <- Openers],
    _ = [Opener ! close || Opener <- Openers],
    _ = [receive {'DOWN', Monitor, process, _, _} -> ok end || Monitor <- Monitors],
    _ = persistent_term:erase(?MODULE),
    ok.

%% @doc One broadcast to all sessions: what it took, as JSON in Base64. Times are in seconds from
%% the moment that it was asked for. Fails unless each session got its text exactly once.
-spec round(megaphone | mod_announce, pos_integer()) -> string().
round(Way, Timeout) ->
    {Count, Host, Seen, Board, Openers} = persistent_term:get(?MODULE),
    _ = [atomics:put(Seen, Index, 0) || Index <- lists:seq(1, Count)],
    _ = [atomics:put(Board, Place, 0) || Place <- [?COUNT, ?FIRST, ?LAST, ?WRONG]],
    atomics:put(Board, ?TARGET, Count),
    Deadline = erlang:monotonic_time(millisecond) + Timeout,
    Begin = erlang:monotonic_time(),
    Done = send(Way, Host, Deadline),
    Accepted = erlang:monotonic_time(),
    ok = until(fun() -> atomics:get(Board, ?COUNT) >= Count end, Deadline),
    Report = Done(),
    Ended = erlang:monotonic_time(),
    %% Nothing is on its way any more once every sink has answered: what came twice has been seen.
    ok = settle(Openers),
    Delivered = atomics:get(Board, ?COUNT),
    Wrong = atomics:get(Board, ?WRONG),
    Uneven = [Index || Index <- lists:seq(1, Count), atomics:get(Seen, Index) =/= 1],
    {Count, 0, []} = {Delivered, Wrong, Uneven},
    Answer = Report#{<<"way">> => Way, <<"messages">> => Delivered,
                     <<"accepted">> => seconds(Accepted - Begin),
                     <<"first">> => seconds(atomics:get(Board, ?FIRST) - Begin),
                     <<"last">> => seconds(atomics:get(Board, ?LAST) - Begin),
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

opener(First, Count, Host, Seen, Board) ->
    Sinks = [open(Index, Host, Seen, Board) || Index <- lists:seq(First, Count, ?OPENERS)],
    opened(Sinks).

opened(Sinks) ->
    receive
        {settle, From, Ref} ->
            _ = [Sink ! {settle, self()} || Sink <- Sinks],
            _ = [receive {settled, Sink} -> ok end || Sink <- Sinks],
            From ! {settled, Ref},
            opened(Sinks);
        close ->
            Monitors = [begin Monitor = monitor(process, Sink), Sink ! close, Monitor end
                        || Sink <- Sinks],
            _ = [receive {'DOWN', Monitor, process, _, _} -> ok end || Monitor <- Monitors]
    end.

open(Index, Host, Seen, Board) ->
    Opener = self(),
    User = <<"user", (integer_to_binary(Index))/binary>>,
    Resource = <<"phone", (integer_to_binary(erlang:phash2(User), 36))/binary>>,
    Sink = spawn(fun() ->
                         Sid = ejabberd_sm:make_sid(),
                         ok = ejabberd_sm:open_session(Sid, User, Host, Resource, 0,
                                                       [{ip, {{127, 0, 0, 1}, 0}}, {conn, c2s},
                                                        {auth_module, ejabberd_auth_mnesia}]),
                         atomics:add(Board, ?OPENED, 1),
                         Opener ! {open, self()},
                         sink(#sink{index = Index, own = <<?HELLO, User/binary, ?TEXT>>,
                                    seen = Seen, board = Board}),
                         ejabberd_sm:close_session(Sid, User, Host, Resource)
                 end),
    receive {open, Sink} -> Sink end.

sink(Sink = #sink{index = Index, own = Own, seen = Seen, board = Board}) ->
    receive
        {route, #message{body = [#text{data = Text}]}} ->
            _ = [atomics:add(Board, ?WRONG, 1) || Text =/= Own, Text =/= ?EVERYBODY],
            atomics:add(Seen, Index, 1),
            N = atomics:add_get(Board, ?COUNT, 1),
            _ = [atomics:put(Board, ?FIRST, erlang:monotonic_time()) || N =:= 1],
            _ = [atomics:put(Board, ?LAST, erlang:monotonic_time()) || N =:= atomics:get(Board, ?TARGET)],
            sink(Sink);
        {settle, From} ->
            From ! {settled, self()},
            sink(Sink);
        close ->
            ok;
        _ ->
            sink(Sink)
    end.
