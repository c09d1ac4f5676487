%%% What the node counts as it happens: one array of counters, which anybody adds to and nobody waits
%%% for. It lives as long as the module does on this node, whatever its processes do.
-module(megaphone_counts).

-export([start/0, stop/0, add/1, add/2, count/1, observe/2, histogram/1, metrics/0]).
-export_type([counter/0, histogram/0]).

-type counter() :: logins | logouts
                 | message_in | presence_in | iq_in | message_out | presence_out | iq_out
                 | offline_stored | reconciliations | mnesia_overloads
                 | broadcasts_done | broadcasts_failed | program_restarts
                 | recipients_sent | recipients_gone | recipients_dropped | recipients_failed
                 | heartbeats_done | heartbeats_lost | heartbeats_failed
                 | sidecar_turns | refused_secret | refused_locked_out | refused_identity
                 | refused_protocol | refused_silent | refused_other.
%% How long something took.
-type histogram() :: resolve | route | heartbeat.

%% Microseconds, the upper bounds of the buckets; one more has no bound. The bridge's are the same.
-define(BOUNDS, [1000, 2500, 10000, 25000, 100000, 250000, 1000000, 2500000, 10000000]).
-define(BUCKETS, 10).
-define(COUNTERS, 28).
%% A histogram is its buckets and the sum.
-define(WORDS, (?BUCKETS + 1)).
-define(HISTOGRAMS, 3).

-spec start() -> ok.
start() ->
    case persistent_term:get(?MODULE, undefined) of
        undefined ->
            Words = ?COUNTERS + ?HISTOGRAMS * ?WORDS,
            persistent_term:put(?MODULE, counters:new(Words, [write_concurrency]));
        _ ->
            ok
    end.

-spec stop() -> ok.
stop() ->
    _ = persistent_term:erase(?MODULE),
    ok.

-spec add(counter()) -> ok.
add(Counter) ->
    add(Counter, 1).

-spec add(counter(), integer()) -> ok.
add(Counter, N) ->
    add_at(index(Counter), N).

-spec count(counter()) -> integer().
count(Counter) ->
    count_at(index(Counter)).

%% @doc Something took so many microseconds.
-spec observe(histogram(), integer()) -> ok.
observe(Histogram, Microseconds) ->
    First = first(Histogram),
    ok = add_at(First + bucket(Microseconds, ?BOUNDS, 0), 1),
    add_at(First + ?BUCKETS, Microseconds).

%% @doc As docs/protocol.md says: bounds in seconds, what is in each bucket, and the sum in seconds.
-spec histogram(histogram()) -> megaphone_metrics:histogram().
histogram(Histogram) ->
    First = first(Histogram),
    {[Bound / 1.0e6 || Bound <- ?BOUNDS],
     [count_at(First + Bucket) || Bucket <- lists:seq(0, ?BUCKETS - 1)],
     count_at(First + ?BUCKETS) / 1.0e6}.

-spec metrics() -> megaphone_metrics:metrics().
metrics() ->
    #{<<"logins_total">> => count(logins),
      <<"logouts_total">> => count(logouts),
      <<"session_reconciliations_total">> => count(reconciliations),
      <<"offline_messages_stored_total">> => count(offline_stored),
      <<"mnesia_overload_events_total">> => count(mnesia_overloads),
      <<"stanzas_total">> => [{<<"in">>, <<"message">>, count(message_in)},
                              {<<"in">>, <<"presence">>, count(presence_in)},
                              {<<"in">>, <<"iq">>, count(iq_in)},
                              {<<"out">>, <<"message">>, count(message_out)},
                              {<<"out">>, <<"presence">>, count(presence_out)},
                              {<<"out">>, <<"iq">>, count(iq_out)}],
      <<"broadcasts_finished_total">> => [{<<"done">>, count(broadcasts_done)},
                                          {<<"failed">>, count(broadcasts_failed)}],
      <<"recipients_total">> => [{<<"sent">>, count(recipients_sent)},
                                 {<<"gone">>, count(recipients_gone)},
                                 {<<"dropped">>, count(recipients_dropped)},
                                 {<<"failed">>, count(recipients_failed)}],
      <<"batch_stage_seconds">> => [{<<"resolve">>, histogram(resolve)},
                                    {<<"route">>, histogram(route)}],
      <<"port_program_restarts_total">> => count(program_restarts),
      <<"sidecar_turns_total">> => count(sidecar_turns),
      <<"sidecar_refusals_total">> => [{<<"secret">>, count(refused_secret)},
                                       {<<"locked_out">>, count(refused_locked_out)},
                                       {<<"identity">>, count(refused_identity)},
                                       {<<"protocol">>, count(refused_protocol)},
                                       {<<"silent">>, count(refused_silent)},
                                       {<<"other">>, count(refused_other)}],
      <<"pipeline_heartbeats_total">> => [{<<"done">>, count(heartbeats_done)},
                                          {<<"lost">>, count(heartbeats_lost)},
                                          {<<"failed">>, count(heartbeats_failed)}],
      <<"pipeline_heartbeat_seconds">> => histogram(heartbeat)}.

%% Nothing where the counters are not there (any more): hooks run until the last moment.
add_at(Index, N) ->
    case persistent_term:get(?MODULE, undefined) of
        undefined -> ok;
        Counters -> counters:add(Counters, Index, N)
    end.

count_at(Index) ->
    case persistent_term:get(?MODULE, undefined) of
        undefined -> 0;
        Counters -> counters:get(Counters, Index)
    end.

bucket(Microseconds, [Bound | Bounds], N) when Microseconds > Bound ->
    bucket(Microseconds, Bounds, N + 1);
bucket(_Microseconds, _Bounds, N) ->
    N.

first(resolve) -> ?COUNTERS + 1;
first(route) -> ?COUNTERS + 1 + ?WORDS;
first(heartbeat) -> ?COUNTERS + 1 + 2 * ?WORDS.

index(logins) -> 1;
index(logouts) -> 2;
index(message_in) -> 3;
index(presence_in) -> 4;
index(iq_in) -> 5;
index(message_out) -> 6;
index(presence_out) -> 7;
index(iq_out) -> 8;
index(offline_stored) -> 9;
index(reconciliations) -> 10;
index(mnesia_overloads) -> 11;
index(broadcasts_done) -> 12;
index(broadcasts_failed) -> 13;
index(program_restarts) -> 14;
index(recipients_sent) -> 15;
index(recipients_gone) -> 16;
index(recipients_dropped) -> 17;
index(recipients_failed) -> 18;
index(heartbeats_done) -> 19;
index(heartbeats_lost) -> 20;
index(heartbeats_failed) -> 21;
index(sidecar_turns) -> 22;
index(refused_secret) -> 23;
index(refused_locked_out) -> 24;
index(refused_identity) -> 25;
index(refused_protocol) -> 26;
index(refused_silent) -> 27;
index(refused_other) -> 28.
