%%% Counts stanzas where they pass: what clients send, what they get, what is stored for later.
%%%
%%% These run for every stanza of the node: they change nothing, wait for nothing and cannot fail.
-module(megaphone_stanzas).

-export([add_hooks/1, remove_hooks/1]).
%% ejabberd_hooks
-export([sent/1, received/1, offline/1]).

-include("xmpp.hrl").

%% What clients send is counted before anything may drop it, and what they get after: privacy lists
%% and their like stand between.
-define(FIRST, 1).
-define(LAST, 1000).
%% mod_offline stores at 50 and says `offlined` from then on (23.01 to 26.07); ejabberd_sm
%% bounces at 100 what is neither stored nor archived.
-define(AFTER_OFFLINE, 60).

-define(HOOKS, [{user_send_packet, sent, ?FIRST},
                {user_receive_packet, received, ?LAST},
                {offline_message_hook, offline, ?AFTER_OFFLINE}]).

-spec add_hooks(binary()) -> ok.
add_hooks(Host) ->
    lists:foreach(fun({Hook, Function, Priority}) ->
                          ejabberd_hooks:add(Hook, Host, ?MODULE, Function, Priority)
                  end, ?HOOKS).

-spec remove_hooks(binary()) -> ok.
remove_hooks(Host) ->
    lists:foreach(fun({Hook, Function, Priority}) ->
                          ejabberd_hooks:delete(Hook, Host, ?MODULE, Function, Priority)
                  end, ?HOOKS).

%% @private
-spec sent(Acc) -> Acc.
sent({#message{}, _} = Acc) -> counted(message_in, Acc);
sent({#presence{}, _} = Acc) -> counted(presence_in, Acc);
sent({#iq{}, _} = Acc) -> counted(iq_in, Acc);
sent(Acc) -> Acc.

%% @private
-spec received(Acc) -> Acc.
received({#message{}, _} = Acc) -> counted(message_out, Acc);
received({#presence{}, _} = Acc) -> counted(presence_out, Acc);
received({#iq{}, _} = Acc) -> counted(iq_out, Acc);
received(Acc) -> Acc.

%% @private
-spec offline(Acc) -> Acc.
offline({offlined, _} = Acc) -> counted(offline_stored, Acc);
offline(Acc) -> Acc.

counted(Counter, Acc) ->
    ok = megaphone_counts:add(Counter),
    Acc.
