%%% How far a broadcast is. Written by its fan-out alone, read by anybody at any time: nobody has
%%% to be asked, and a batch costs a handful of additions.
-module(megaphone_progress).

-export([new/0, add/3, count/2, resolved/2, state/2, state/1, states/0, to_map/1]).
-export_type([progress/0, counter/0, state/0]).

-type counter() :: recipients | sent | gone | dropped | failed | batches | batches_done.
-type state() :: resolving | running | waiting.
-opaque progress() :: counters:counters_ref().

-define(STATE, 8).
-define(RESOLVE_US, 9).
-define(COUNTERS, [recipients, sent, gone, dropped, failed, batches, batches_done]).

-spec new() -> progress().
new() ->
    counters:new(?RESOLVE_US, [atomics]).

%% @doc What becomes of recipients is added up for all broadcasts, too.
-spec add(counter(), integer(), progress()) -> ok.
add(Counter, N, Progress) ->
    ok = counters:add(Progress, index(Counter), N),
    case Counter of
        sent -> megaphone_counts:add(recipients_sent, N);
        gone -> megaphone_counts:add(recipients_gone, N);
        dropped -> megaphone_counts:add(recipients_dropped, N);
        failed -> megaphone_counts:add(recipients_failed, N);
        _ -> ok
    end.

-spec count(counter(), progress()) -> integer().
count(Counter, Progress) ->
    counters:get(Progress, index(Counter)).

%% @doc The audience is frozen; it took so many microseconds.
-spec resolved(non_neg_integer(), progress()) -> ok.
resolved(Microseconds, Progress) ->
    %% 0 is "not yet".
    counters:put(Progress, ?RESOLVE_US, max(1, Microseconds)).

-spec state(state(), progress()) -> ok.
state(resolving, Progress) -> counters:put(Progress, ?STATE, 0);
state(running, Progress) -> counters:put(Progress, ?STATE, 1);
state(waiting, Progress) -> counters:put(Progress, ?STATE, 2).

-spec state(progress()) -> state().
state(Progress) ->
    lists:nth(counters:get(Progress, ?STATE) + 1, states()).

%% @doc Of a broadcast that is not over.
-spec states() -> [state(), ...].
states() ->
    [resolving, running, waiting].

%% @doc The part of docs/protocol.md, `broadcasts`, that moves.
-spec to_map(progress()) -> #{binary() => binary() | number() | undefined}.
to_map(Progress) ->
    Counts = maps:from_list([{atom_to_binary(Counter, utf8), count(Counter, Progress)}
                             || Counter <- ?COUNTERS]),
    Resolve = case counters:get(Progress, ?RESOLVE_US) of
                  0 -> undefined;
                  Microseconds -> Microseconds / 1.0e6
              end,
    Counts#{<<"state">> => atom_to_binary(state(Progress), utf8), <<"resolve_seconds">> => Resolve}.

index(recipients) -> 1;
index(sent) -> 2;
index(gone) -> 3;
index(dropped) -> 4;
index(failed) -> 5;
index(batches) -> 6;
index(batches_done) -> 7.
