%%% Who is online: one quick walk over the node's own sessions, frozen into batches before the
%%% first message leaves.
%%%
%%% The session table is fixed for the walk and released after it, whatever the pace of the
%%% sending: a table that stays fixed while people come and go grows slow and keeps its memory.
-module(megaphone_audience).

-export([check/1, freeze/5, sessions/0]).
-export_type([unit/0, table/0]).

-include_lib("stdlib/include/ms_transform.hrl").
-include("ejabberd_sm.hrl").

%% Sessions that one step of the walk looks at most.
-define(CHUNK, 1000).

%% What is a recipient: each session, or each account once.
-type unit() :: session | account.
%% Rows {N, megaphone_batch:batch()}, N from 0.
-type table() :: ets:tab().

-record(walk, {table :: table(),
               size :: pos_integer(),
               resolved :: fun((Recipients :: pos_integer()) -> ok),
               seen :: none | ets:tab(),
               rows = [] :: [tuple()],
               length = 0 :: non_neg_integer(),
               recipients = 0 :: non_neg_integer(),
               batches = 0 :: non_neg_integer(),
               left_out = 0 :: non_neg_integer()}).

%% @doc Whether the sessions of these hosts are in ejabberd's own table, where they can be walked.
-spec check(megaphone_request:scope()) -> ok | {error, megaphone_request:refusal()}.
check(Scope) ->
    Hosts = case Scope of
                all -> ejabberd_option:hosts();
                {hosts, Named} -> Named
            end,
    case [{Host, Type} || Host <- Hosts, Type <- [ejabberd_option:sm_db_type(Host)],
                          Type =/= mnesia] of
        [] ->
            ok;
        [{Host, Type} | _] ->
            {error, megaphone_request:refuse(
                      <<"to">>,
                      io_lib:format("the sessions of ~ts are kept in ~ts, where they cannot be "
                                    "walked", [Host, Type]),
                      "set sm_db_type: mnesia in ejabberd.yml, or name another virtual host")}
    end.

%% @doc Sessions known to this node, in constant time; undefined when no host keeps them in
%% Mnesia. In a cluster these are the cluster's.
-spec sessions() -> non_neg_integer() | undefined.
sessions() ->
    case ets:info(session, size) of
        Size when is_integer(Size) -> Size;
        undefined -> undefined
    end.

%% @doc Fills the table with batches of at most Size recipients. Resolved is told the number of
%% recipients of each batch.
-spec freeze(megaphone_request:scope(), unit(), pos_integer(), table(),
             fun((pos_integer()) -> ok)) ->
          #{recipients := non_neg_integer(), batches := non_neg_integer(),
            left_out := non_neg_integer()}.
freeze(Scope, Unit, Size, Table, Resolved) ->
    Seen = case Unit of
               session -> none;
               account -> ets:new(megaphone_seen, [set, private])
           end,
    Walk = #walk{table = Table, size = Size, resolved = Resolved, seen = Seen},
    true = ets:safe_fixtable(session, true),
    Walked = try walk(ets:select(session, spec(Scope, Unit), ?CHUNK), Walk)
             after
                 ets:safe_fixtable(session, false)
             end,
    #walk{recipients = Recipients, batches = Batches, left_out = LeftOut} = flush(Walked),
    _ = [ets:delete(Seen) || Seen =/= none],
    #{recipients => Recipients, batches => Batches, left_out => LeftOut}.

%% In a cluster the table holds everybody's sessions.
spec(Scope, Unit) ->
    [{Head, Guards, Result}] = spec(Unit),
    [{Head, Guards ++ guards(Scope), Result}].

%% `$3` is the server in both: variables are numbered as they appear.
spec(session) ->
    ets:fun2ms(fun(#session{sid = {_, Pid}, usr = {User, Server, Resource}})
                     when node(Pid) =:= node() -> {User, Server, Resource, Pid} end);
spec(account) ->
    ets:fun2ms(fun(#session{sid = {_, Pid}, us = {User, Server}})
                     when node(Pid) =:= node() -> {User, Server} end).

guards(all) -> [];
guards({hosts, Hosts}) ->
    [list_to_tuple(['orelse', false | [{'=:=', '$3', Host} || Host <- Hosts]])].

walk('$end_of_table', Walk) ->
    Walk;
walk({Rows, Continuation}, Walk) ->
    Taken = lists:foldl(fun take/2, Walk, Rows),
    walk(ets:select(Continuation), Taken).

take(Account, Walk = #walk{seen = Seen}) when Seen =/= none ->
    case ets:insert_new(Seen, {Account}) of
        true -> add(Account, Walk);
        false -> Walk
    end;
take(Session, Walk) ->
    add(Session, Walk).

add(Row, Walk = #walk{rows = Rows, length = Length, size = Size}) when Length + 1 < Size ->
    Walk#walk{rows = [Row | Rows], length = Length + 1};
add(Row, Walk = #walk{rows = Rows, length = Length}) ->
    flush(Walk#walk{rows = [Row | Rows], length = Length + 1}).

flush(Walk = #walk{rows = []}) ->
    Walk;
flush(Walk = #walk{table = Table, rows = Rows, recipients = Recipients, batches = N,
                   left_out = LeftOut, resolved = Resolved}) ->
    Rest = Walk#walk{rows = [], length = 0},
    case megaphone_batch:new(Recipients, lists:reverse(Rows)) of
        {empty, Left} ->
            Rest#walk{left_out = LeftOut + Left};
        {Batch, Left} ->
            true = ets:insert(Table, {N, Batch}),
            Count = megaphone_batch:count(Batch),
            ok = Resolved(Count),
            Rest#walk{recipients = Recipients + Count, batches = N + 1, left_out = LeftOut + Left}
    end.
