%%% Names that are the node's own: those that it has, and those that it may want later. A process of
%%% ejabberd's that is being restarted leaves its name free for a moment; it must be there for it.
-module(megaphone_reserved).

-export([start/0, stop/0, is_reserved/1]).

-define(NAMES, {?MODULE, names}).

%% @doc Remembers what there is now: modules, after which most processes are named, names that
%% applications say they register, and names that are registered.
-spec start() -> ok.
start() ->
    Modules = [unicode:characters_to_binary(Module) || {Module, _, _} <- code:all_available()],
    Announced = [Name || {App, _, _} <- application:loaded_applications(),
                         {ok, Names} <- [application:get_key(App, registered)], Name <- Names],
    Names = [atom_to_binary(Name, utf8) || Name <- Announced ++ registered()],
    persistent_term:put(?NAMES, maps:from_keys(Modules ++ Names, true)).

-spec stop() -> ok.
stop() ->
    _ = persistent_term:erase(?NAMES),
    ok.

%% @doc Whether Python has to leave a name to the node.
-spec is_reserved(binary()) -> boolean().
%% ejabberd's processes, those of its modules for each virtual host, and its caches.
is_reserved(<<"ejabberd", _/binary>>) -> true;
is_reserved(<<"mod_", _/binary>>) -> true;
is_reserved(<<"extauth_", _/binary>>) -> true;
is_reserved(Name) ->
    is_map_key(Name, persistent_term:get(?NAMES)) orelse is_cache(Name) orelse is_module(Name).

is_cache(Name) ->
    Rest = byte_size(Name) - 6,
    Rest > 0 andalso binary:part(Name, Rest, 6) =:= <<"_cache">>.

%% One that came later.
is_module(Name) ->
    try erlang:module_loaded(binary_to_existing_atom(Name, utf8))
    catch error:badarg -> false
    end.
