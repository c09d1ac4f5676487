%%% What the node counts as it happens: one array of counters, which anybody adds to and nobody waits
%%% for. It lives as long as the module does on this node, whatever its processes do.
-module(megaphone_counts).

-export([start/0, stop/0, add/1, add/2, count/1, metrics/0]).
-export_type([counter/0]).

-type counter() :: logins | logouts
                 | message_in | presence_in | iq_in | message_out | presence_out | iq_out
                 | offline_stored | reconciliations | mnesia_overloads.

-define(SIZE, 11).

-spec start() -> ok.
start() ->
    case persistent_term:get(?MODULE, undefined) of
        undefined -> persistent_term:put(?MODULE, counters:new(?SIZE, [write_concurrency]));
        _ -> ok
    end.

-spec stop() -> ok.
stop() ->
    _ = persistent_term:erase(?MODULE),
    ok.

-spec add(counter()) -> ok.
add(Counter) ->
    add(Counter, 1).

%% @doc Nothing where the counters are not there (any more): hooks run until the last moment.
-spec add(counter(), integer()) -> ok.
add(Counter, N) ->
    case persistent_term:get(?MODULE, undefined) of
        undefined -> ok;
        Counters -> counters:add(Counters, index(Counter), N)
    end.

-spec count(counter()) -> integer().
count(Counter) ->
    case persistent_term:get(?MODULE, undefined) of
        undefined -> 0;
        Counters -> counters:get(Counters, index(Counter))
    end.

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
                              {<<"out">>, <<"iq">>, count(iq_out)}]}.

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
index(mnesia_overloads) -> 11.
