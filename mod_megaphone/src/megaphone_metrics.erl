%%% What the node says of itself to whoever scrapes: `metrics` of docs/protocol.md.
%%%
%%% Nothing here depends on the number of sessions or waits for anybody: what is dear to find out
%%% is sampled in the background, and its newest sample is read.
-module(megaphone_metrics).

-export([all/0, detailed/0, largest/2]).
-export_type([metrics/0, value/0, histogram/0]).

-include("logger.hrl").
-include("megaphone.hrl").

%% By the metric's name without its prefix `megaphone_`. Without labels it is a number or a histogram;
%% with labels, a list of tuples: the labels' values and that. What cannot be told is left out.
-type metrics() :: #{binary() => value()}.
-type value() :: number() | histogram() | [tuple()].
-type histogram() :: {Bounds :: [float()], Counts :: [non_neg_integer()], Sum :: float()}.

%% Who has something to tell: each has a `metrics/0` of type metrics().
-define(PARTS, [megaphone_vm, megaphone_counts, megaphone_sessions, megaphone_broadcasts,
                megaphone_heartbeat, megaphone_sampler]).

%% Label combinations that a metric may have, and one that is shown in detail; what is beyond them
%% is told together.
-define(MOST, 10).
-define(MOST_DETAILED, 10000).
-define(OTHER, <<"other">>).

%% @doc Everything, in well under the time that a scrape may take.
-spec all() -> metrics().
all() ->
    lists:foldl(fun(Part, All) -> maps:merge(All, part(Part, metrics)) end, node_metrics(), ?PARTS).

%% @doc What has too many labels for every scrape.
-spec detailed() -> metrics().
detailed() ->
    maps:map(fun(_Name, Rows) -> largest(2, ?MOST_DETAILED, Rows) end,
             maps:merge(part(megaphone_sessions, detail), part(megaphone_sampler, detail))).

%% @doc At most ?MOST rows of a name and its numbers: those in which the number at this position is
%% largest, and the sums of the others. A row that is called as those are is one of them.
-spec largest(pos_integer(), [Row]) -> [Row] when Row :: tuple().
largest(Position, Rows) ->
    largest(Position, ?MOST, Rows).

largest(Position, Most, Rows) ->
    {Others, Named} = lists:partition(fun(Row) -> element(1, Row) =:= ?OTHER end, Rows),
    Sorted = lists:reverse(lists:keysort(Position, Named)),
    case length(Rows) > Most of
        true ->
            {Shown, Rest} = lists:split(Most - 1, Sorted),
            Shown ++ [lists:foldl(fun sum/2, hd(Rest), tl(Rest) ++ Others)];
        false ->
            Sorted ++ Others
    end.

sum(Row, Sum) ->
    [_ | Numbers] = tuple_to_list(Row),
    [_ | Sums] = tuple_to_list(Sum),
    list_to_tuple([?OTHER | lists:zipwith(fun(A, B) -> A + B end, Numbers, Sums)]).

%% What fails is missing, and nothing else with it.
part(Module, Function) ->
    try Module:Function()
    catch
        Class:Reason ->
            ?DEBUG("megaphone: the metrics of ~ts failed: ~p: ~0P", [Module, Class, Reason, 12]),
            #{}
    end.

node_metrics() ->
    Information = {atom_to_binary(node(), utf8), ejabberd_version(),
                   list_to_binary(erlang:system_info(otp_release)), ?MEGAPHONE_VERSION, 1},
    %% Both are of the monotonic clock.
    Uptime = erlang:monotonic_time() - erlang:system_info(start_time),
    #{<<"node_info">> => [Information],
      <<"node_uptime_seconds">> => Uptime / erlang:convert_time_unit(1, second, native)}.

ejabberd_version() ->
    case application:get_key(ejabberd, vsn) of
        {ok, Version} -> unicode:characters_to_binary(Version);
        undefined -> <<>>
    end.
