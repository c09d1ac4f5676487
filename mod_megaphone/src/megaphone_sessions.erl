%%% How many sessions each vhost has on this node, counted by the hooks that open and close them.
%%%
%%% A session's process that is killed runs no hook, and ejabberd forgets its row without one, too:
%%% so the counts are held against the table from time to time (megaphone_reconciliation).
-module(megaphone_sessions).

-export([new_table/0, add_hooks/1, remove_hooks/1]).
-export([hosts/1, counts/0, reconcile/3, metrics/0, detail/0]).
%% ejabberd_hooks
-export([opened/3, closed/3]).
-export_type([counted/0]).

-include("xmpp.hrl").

-define(PRIORITY, 50).
-define(HOOKS, [{sm_register_connection_hook, opened}, {sm_remove_connection_hook, closed}]).

-record(vhost, {name :: binary(),
                sessions = 0 :: integer(),
                %% Logins and logouts: how far apart two looks can be.
                moves = 0 :: non_neg_integer(),
                %% Whether those that were there before the hooks are counted, too.
                known = false :: boolean()}).

-type counted() :: {Sessions :: integer(), Moves :: non_neg_integer()}.

%% @doc The table, owned by the calling process. Without it nothing is counted, and nothing fails.
-spec new_table() -> ok.
new_table() ->
    ?MODULE = ets:new(?MODULE, [named_table, public, {keypos, #vhost.name},
                                {write_concurrency, true}]),
    ok.

-spec add_hooks(binary()) -> ok.
add_hooks(Host) ->
    lists:foreach(fun({Hook, Function}) ->
                          ejabberd_hooks:add(Hook, Host, ?MODULE, Function, ?PRIORITY)
                  end, ?HOOKS).

-spec remove_hooks(binary()) -> ok.
remove_hooks(Host) ->
    lists:foreach(fun({Hook, Function}) ->
                          ejabberd_hooks:delete(Hook, Host, ?MODULE, Function, ?PRIORITY)
                  end, ?HOOKS),
    try
        true = ets:delete(?MODULE, Host),
        ok
    catch error:badarg -> ok
    end.

%% @private
-spec opened(ejabberd_sm:sid(), jid(), ejabberd_sm:info()) -> ok.
opened(_Sid, #jid{lserver = Host}, _Info) ->
    ok = megaphone_counts:add(logins),
    moved(Host, 1).

%% @private
-spec closed(ejabberd_sm:sid(), jid(), ejabberd_sm:info()) -> ok.
closed(_Sid, #jid{lserver = Host}, _Info) ->
    ok = megaphone_counts:add(logouts),
    moved(Host, -1).

moved(Host, By) ->
    try
        _ = ets:update_counter(?MODULE, Host, [{#vhost.sessions, By}, {#vhost.moves, 1}]),
        ok
    catch
        %% A vhost that is not counted, or no table.
        error:badarg -> ok
    end.

%% @doc Counts the sessions of these vhosts and of no others.
-spec hosts([binary()]) -> ok.
hosts(Hosts) ->
    _ = [ets:insert_new(?MODULE, #vhost{name = Host}) || Host <- Hosts],
    Gone = maps:without(Hosts, counts()),
    lists:foreach(fun(Host) -> true = ets:delete(?MODULE, Host) end, maps:keys(Gone)).

-spec counts() -> #{binary() => counted()}.
counts() ->
    maps:from_list([{Name, {Sessions, Moves}}
                    || #vhost{name = Name, sessions = Sessions, moves = Moves}
                           <- ets:tab2list(?MODULE)]).

%% @doc Holds a count against the sessions that a walk found which began at the earlier count. It is
%% changed only if it is wrong whatever came and went during the walk. The drift: counted minus
%% found.
-spec reconcile(binary(), Found :: non_neg_integer() | unknown, counted()) -> Drift :: integer().
reconcile(Host, Found, {Earlier, EarlierMoves}) ->
    case ets:lookup(?MODULE, Host) of
        [#vhost{sessions = Sessions, moves = Moves, known = Known}] ->
            Drift = drift(Sessions, Found, Sessions - Earlier, Moves - EarlierMoves),
            _ = ets:update_counter(?MODULE, Host, {#vhost.sessions, -Drift}),
            _ = ets:update_element(?MODULE, Host, {#vhost.known, true}),
            %% At first those that were there before are no mistake in counting.
            case Known of
                true -> Drift;
                false -> 0
            end;
        [] ->
            0
    end.

%% The walk has met half of those that came during it, and half of those that went, or so.
drift(_Sessions, unknown, _Net, _Moves) -> 0;
drift(Sessions, Found, _Net, Moves) when abs(Sessions - Found) =< Moves -> 0;
drift(Sessions, Found, Net, _Moves) -> Sessions - (Found + Net div 2).

%% @doc Nothing until those of all vhosts are known: a part of them would be taken for all.
-spec metrics() -> megaphone_metrics:metrics().
metrics() ->
    case lists:keymember(false, #vhost.known, ets:tab2list(?MODULE)) of
        false -> #{<<"sessions">> => megaphone_metrics:largest(2, rows())};
        true -> #{}
    end.

%% @doc Of every vhost.
-spec detail() -> megaphone_metrics:metrics().
detail() ->
    #{<<"detailed_sessions">> => rows()}.

rows() ->
    [{Name, max(0, Sessions)}
     || #vhost{name = Name, sessions = Sessions, known = true} <- ets:tab2list(?MODULE)].
