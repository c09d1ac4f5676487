%%% Holds the counted sessions against ejabberd's table, and against the processes that still live.
%%%
%%% One quick walk, as that of a broadcast's audience: the table is fixed for it and released after
%%% it, two seconds at a million sessions. How seldom it comes is for megaphone_sampler.
-module(megaphone_reconciliation).

-export([sample/1]).

-include_lib("stdlib/include/ms_transform.hrl").
-include("ejabberd_sm.hrl").

%% Sessions that one step of the walk looks at most.
-define(CHUNK, 1000).

-record(found, {alive = #{} :: #{binary() => pos_integer()},
                dead = 0 :: non_neg_integer()}).

-spec sample(none) -> megaphone_sampler:sample(none).
sample(none) ->
    ok = megaphone_sessions:hosts(mod_megaphone:hosts()),
    Before = megaphone_sessions:counts(),
    #found{alive = Alive, dead = Dead} = walk(),
    Drift = maps:fold(fun(Host, Counted, Sum) ->
                              Sum + megaphone_sessions:reconcile(Host, found(Host, Alive), Counted)
                      end, 0, Before),
    ok = megaphone_counts:add(reconciliations),
    #{metrics => #{<<"session_drift">> => Drift, <<"session_rows_dead">> => Dead}, next => none}.

%% Sessions that are kept elsewhere cannot be walked: they are counted from when the module started.
found(Host, Alive) ->
    case ejabberd_option:sm_db_type(Host) of
        mnesia -> maps:get(Host, Alive, 0);
        _ -> unknown
    end.

walk() ->
    case ets:whereis(session) of
        undefined ->
            #found{};
        Table ->
            true = ets:safe_fixtable(Table, true),
            try walk(ets:select(Table, spec(), ?CHUNK), #found{})
            after
                ets:safe_fixtable(Table, false)
            end
    end.

walk('$end_of_table', Found) ->
    Found;
walk({Rows, Continuation}, Found) ->
    walk(ets:select(Continuation), lists:foldl(fun look/2, Found, Rows)).

%% In a cluster the table holds everybody's sessions.
spec() ->
    ets:fun2ms(fun(#session{sid = {_, Pid}, us = {_, Server}}) when node(Pid) =:= node() ->
                       {Server, Pid}
               end).

look({Server, Pid}, Found = #found{alive = Alive, dead = Dead}) ->
    case is_process_alive(Pid) of
        true -> Found#found{alive = maps:update_with(Server, fun(N) -> N + 1 end, 1, Alive)};
        false -> Found#found{dead = Dead + 1}
    end.
