-module(megaphone_listener_tests).

-include_lib("eunit/include/eunit.hrl").

%% The node's side with options of a directory's; whether it listens is the test's business.
with_tree(Changes, Fun) ->
    {timeout, 30,
     fun() ->
             process_flag(trap_exit, true),
             Directory = sidecar_test:directory(),
             Options = sidecar_test:options(Directory, #{sidecar => Changes(Directory)}),
             try
                 megaphone_test:with_log(
                   fun() -> sidecar_test:with_options(Options, fun() -> tree(Options, Directory, Fun) end) end)
             after
                 sidecar_test:remove(Directory),
                 process_flag(trap_exit, false)
             end
     end}.

tree(Options, Directory, Fun) ->
    {ok, Port} = megaphone_port:start_link(Options),
    {ok, Sidecars} = megaphone_sidecars_sup:start_link(),
    try Fun(Directory)
    after [sidecar_test:stop(Pid) || Pid <- [Sidecars, Port]]
    end.

unix(Directory) -> #{socket => path(Directory)}.

path(Directory) -> filename:join(Directory, <<"node.sock">>).

until(Condition) -> megaphone_test:until(Condition).

status(Key) -> maps:get(Key, megaphone_sidecars:status()).

until_error(Part) ->
    until(fun() -> Error = status(<<"error">>), Error =/= undefined andalso string:find(Error, Part) =/= nomatch end),
    ?assertEqual(undefined, status(<<"listening">>)).

until_listening() ->
    until(fun() -> status(<<"listening">>) =/= undefined end),
    ?assertEqual(undefined, status(<<"error">>)).

%% What a timer says every five seconds.
again() ->
    megaphone_listener ! listen,
    _ = gen_server:call(megaphone_listener, sync),
    ok.

told() -> [Text || {error, Text} <- megaphone_test:logged("no sidecar can connect")].

acceptor() ->
    {links, Links} = process_info(whereis(megaphone_listener), links),
    [Acceptor] = [Pid || Pid <- Links, is_pid(Pid), Pid =/= whereis(megaphone_sidecars_sup)],
    Acceptor.

joins(Where) ->
    {ok, Sidecar} = sidecar_standin:start(Where, #{}),
    until(fun() -> sidecar_test:port_state() =:= <<"connected">> end),
    sidecar_standin:stop(Sidecar),
    until(fun() -> sidecar_test:port_state() =:= <<"waiting">> end).

listens_test_() ->
    with_tree(fun unix/1, fun(Directory) ->
        until_listening(),
        Path = path(Directory),
        ?assertEqual(<<"unix:", Path/binary>>, status(<<"listening">>)),
        ?assertMatch([{info, _}], megaphone_test:logged("waiting for sidecars at unix:")),
        joins({unix, Path}),
        ok = supervisor:terminate_child(megaphone_sidecars_sup, megaphone_listener),
        ?assertEqual({error, enoent}, file:read_link_info(Path))
    end).

%% Another's port: one line, and it listens when the port is free.
busy_port_test_() ->
    {ok, Other} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Other),
    with_tree(fun(_) -> #{port => Port} end, fun(_) ->
        until_error("address already in use"),
        again(),
        again(),
        ?assertMatch([_], told()),
        ?assertNotEqual(nomatch, string:find(hd(told()), "It is tried again every 5 s")),
        ok = gen_tcp:close(Other),
        again(),
        until_listening(),
        joins({tcp, Port}),
        ?assertMatch([_], told())
    end).

%% Without a secret nobody could come in: it does not listen.
no_secret_test_() ->
    with_tree(fun(Directory) -> (unix(Directory))#{secret_file => filename:join(Directory, <<"ключ"/utf8>>)} end,
              fun(Directory) ->
        until_error("is not there"),
        ?assertNotEqual(nomatch, string:find(status(<<"error">>), <<"ключ"/utf8>>)),
        again(),
        ?assertMatch([_], told()),
        File = filename:join(Directory, <<"ключ"/utf8>>),
        ok = file:write_file(File, <<"short">>),
        again(),
        %% Another reason, another line.
        until_error("holds 5 bytes"),
        ?assertMatch([_, _], told()),
        ?assertEqual({error, enoent}, file:read_link_info(path(Directory))),
        ok = file:write_file(File, sidecar_test:secret()),
        again(),
        until_listening(),
        joins({unix, path(Directory)})
    end).

%% What it is told once it has listened is news again.
told_again_test_() ->
    with_tree(fun unix/1, fun(Directory) ->
        until_listening(),
        [begin
             exit(acceptor(), kill),
             until_error("sidecars are accepted no more: killed"),
             ?assertEqual(N, length(told())),
             ?assertEqual({error, enoent}, file:read_link_info(path(Directory))),
             again(),
             until_listening()
         end || N <- [1, 2]],
        joins({unix, path(Directory)})
    end).

%% A retry while it listens already makes no second acceptor.
one_acceptor_test_() ->
    with_tree(fun unix/1, fun(Directory) ->
        until_listening(),
        Acceptor = acceptor(),
        again(),
        ?assertEqual(Acceptor, acceptor()),
        until_listening(),
        joins({unix, path(Directory)}),
        ?assertEqual([], told())
    end).

%% A mistake in the options is told, and does not end anything.
contradiction_test_() ->
    with_tree(fun(Directory) -> (unix(Directory))#{port => 1} end, fun(_) ->
        Listener = whereis(megaphone_listener),
        until_error("sidecar has both socket and port"),
        again(),
        ?assertEqual(Listener, whereis(megaphone_listener)),
        ?assertMatch([_], told())
    end).

%% The option has gone a moment before the tree has.
no_option_test_() ->
    with_tree(fun(Directory) -> (unix(Directory))#{port => 1} end, fun(_) ->
        Listener = whereis(megaphone_listener),
        until_error("both"),
        Options = persistent_term:get({mod_megaphone, options}),
        persistent_term:put({mod_megaphone, options}, Options#{sidecar := undefined}),
        again(),
        ?assertEqual(Listener, whereis(megaphone_listener))
    end).

%% A listener that was killed has left its socket behind.
killed_test_() ->
    with_tree(fun unix/1, fun(Directory) ->
        until_listening(),
        Before = whereis(megaphone_listener),
        exit(Before, kill),
        until(fun() -> Pid = whereis(megaphone_listener), is_pid(Pid) andalso Pid =/= Before end),
        until(fun() -> is_map(megaphone_sidecars:status()) end),
        until_listening(),
        ?assertEqual([], told()),
        joins({unix, path(Directory)})
    end).
