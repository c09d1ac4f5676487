%%% The names of Python processes at the node: those that the option `allowed_names` leaves to them.
%%% A name is an atom, and atoms stay for ever: those that the VM has to make for Python are counted.
-module(megaphone_names).

-export([start/0, stop/0, are_names/1, register/1]).
-export_type([name/0]).

-define(COUNTER, {?MODULE, made}).
%% Names that did not exist as an atom before; a tenth of a percent of what the VM can hold.
-define(MAX_MADE, 10000).
-define(MAX_NAME, 255).

-type name() :: {local | global, binary()}.

%% @doc Begins the count, and notes what the node has; both outlive every process of the package.
-spec start() -> ok.
start() ->
    case persistent_term:get(?COUNTER, none) of
        none ->
            persistent_term:put(?COUNTER, counters:new(1, [atomics])),
            megaphone_reserved:start();
        _ ->
            ok
    end.

-spec stop() -> ok.
stop() ->
    _ = persistent_term:erase(?COUNTER),
    megaphone_reserved:stop().

%% @doc A process has one name in a scope at most, as everywhere in Erlang.
-spec are_names(term()) -> boolean().
are_names([]) -> true;
are_names([Name]) -> is_name(Name);
are_names([{Scope, _} = One, {Other, _} = Two]) -> Scope =/= Other andalso is_name(One) andalso is_name(Two);
are_names(_) -> false.

is_name({Scope, Name}) when Scope =:= local; Scope =:= global -> is_binary(Name);
is_name(_) -> false.

%% @doc Registers the calling process under all the names, or under none.
-spec register([name()]) -> ok | {error, {badarg | overload | refused, binary()}}.
register(Names) ->
    take_all(Names, []).

take_all([], _Registered) ->
    ok;
take_all([{Scope, Name} | Rest], Registered) ->
    case atom(Name) of
        {ok, Atom} ->
            case take(Scope, Atom) of
                true ->
                    take_all(Rest, [{Scope, Atom} | Registered]);
                false ->
                    release(Registered),
                    {error, {badarg, <<"the name ", (megaphone_log:sanitise(Name))/binary,
                                       " is taken or is none that a process can have">>}}
            end;
        {error, _} = Error ->
            release(Registered),
            Error
    end.

take(local, Name) ->
    try erlang:register(Name, self())
    catch error:badarg -> false
    end;
take(global, Name) ->
    %% May wait for other nodes: the proxy's own trouble, and nobody else's.
    global:register_name(Name, self()) =:= yes.

release(Registered) ->
    lists:foreach(fun({local, Name}) -> true = unregister(Name);
                     ({global, Name}) -> global:unregister_name(Name)
                  end, Registered).

atom(Name) when Name =:= <<>>; byte_size(Name) > ?MAX_NAME ->
    {error, {badarg, <<"a name has 1 to 255 bytes">>}};
%% The names of the package's own processes, which may be free for a moment.
atom(<<"megaphone_", _/binary>>) ->
    {error, {badarg, <<"names that begin with megaphone_ are the node's">>}};
atom(<<"undefined">>) ->
    {error, {badarg, <<"undefined is no name">>}};
atom(Name) ->
    case is_allowed(Name) of
        true ->
            try {ok, binary_to_existing_atom(Name, utf8)}
            catch error:badarg -> make(Name)
            end;
        false ->
            refused(megaphone_log:sanitise(Name))
    end.

is_allowed(Name) ->
    case mod_megaphone:option(allowed_names) of
        free -> not megaphone_reserved:is_reserved(Name);
        Names -> lists:member(Name, Names)
    end.

refused(Name) ->
    ok = megaphone_port:complain(<<"the name ", Name/binary, " was refused: allowed_names does not "
                                   "allow it">>),
    {error, {refused, <<"the name ", Name/binary, " is not Python's: choose another, or allow it by "
                        "allowed_names">>}}.

make(Name) ->
    Made = persistent_term:get(?COUNTER),
    case is_list(unicode:characters_to_list(Name)) of
        false ->
            {error, {badarg, <<"a name is UTF-8">>}};
        true ->
            ok = counters:add(Made, 1, 1),
            case counters:get(Made, 1) > ?MAX_MADE of
                true -> {error, {overload, <<"the node has made as many names as it may">>}};
                false -> {ok, binary_to_atom(Name, utf8)}
            end
    end.
