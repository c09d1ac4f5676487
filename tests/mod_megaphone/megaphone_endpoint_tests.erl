-module(megaphone_endpoint_tests).

-include_lib("eunit/include/eunit.hrl").
-include_lib("kernel/include/file.hrl").

with_directory(Fun) ->
    {timeout, 20,
     fun() ->
             Directory = sidecar_test:directory(),
             try Fun(Directory)
             after sidecar_test:remove(Directory)
             end
     end}.

path(Directory) -> filename:join(Directory, <<"node.sock">>).

listen(Options) -> megaphone_endpoint:listen(Options).

error_text(Options) ->
    {error, Text} = listen(Options),
    Line = unicode:characters_to_binary(Text),
    ?assert(is_binary(Line)),
    Line.

has(Text, Part) ->
    ?assertEqual({Text, true}, {Text, string:find(Text, Part) =/= nomatch}).

is_there(Path) -> element(1, file:read_link_info(Path)) =:= ok.

%% A connection from the endpoint's other side to this one.
accepted(Endpoint = #{listener := Listener}, Where) ->
    Self = self(),
    Pid = spawn_link(fun() ->
                             {ok, Connection} = sidecar_standin:connect(Where),
                             Self ! {self(), connected},
                             receive stop -> sidecar_standin:close(Connection) end
                     end),
    {ok, Socket} = gen_tcp:accept(Listener, 5000),
    Address = megaphone_endpoint:address(Socket),
    Secured = megaphone_endpoint:secure(Socket, Endpoint, 5000),
    receive {Pid, connected} -> ok after 5000 -> error(not_connected) end,
    Pid ! stop,
    {Address, Secured}.

unix_test_() ->
    with_directory(fun(Directory) ->
        Path = path(Directory),
        {ok, Endpoint = #{kind := unix, name := Name}} = listen(#{socket => Path}),
        ?assertEqual(<<"unix:", Path/binary>>, Name),
        {ok, #file_info{mode = Mode}} = file:read_link_info(Path),
        ?assertEqual(8#140660, Mode),
        ?assertMatch({{ok, unix}, {ok, {unix, _}}}, accepted(Endpoint, {unix, Path})),
        ?assertEqual(ok, megaphone_endpoint:close(Endpoint)),
        ?assertNot(is_there(Path))
    end).

%% YAML is UTF-8, and a path its bytes; what counts is their number.
path_of_any_script_test_() ->
    with_directory(fun(Directory) ->
        Path = filename:join(Directory, <<"узел é"/utf8>>),
        {ok, Endpoint = #{name := <<"unix:", Path/binary>>}} = listen(#{socket => Path}),
        ?assert(is_there(Path)),
        ?assertMatch({{ok, unix}, {ok, _}}, accepted(Endpoint, {unix, Path})),
        ok = megaphone_endpoint:close(Endpoint),
        ?assertNot(is_there(Path)),
        Long = filename:join(Directory, unicode:characters_to_binary(lists:duplicate(60, $é))),
        has(error_text(#{socket => Long}), "a Unix socket's path 107 at most")
    end).

path_length_test_() ->
    with_directory(fun(Directory) ->
        Path = fun(Size) -> filename:join(Directory, binary:copy(<<"x">>, Size - byte_size(Directory) - 1)) end,
        {ok, Endpoint} = listen(#{socket => Path(107)}),
        ?assertMatch({{ok, unix}, {ok, _}}, accepted(Endpoint, {unix, Path(107)})),
        ok = megaphone_endpoint:close(Endpoint),
        has(error_text(#{socket => Path(108)}), "has 108 bytes")
    end).

%% What is no socket stays as it is.
in_the_way_test_() ->
    [with_directory(fun(Directory) ->
         Path = path(Directory),
         ok = Make(Path),
         {ok, Before} = file:read_link_info(Path),
         Text = error_text(#{socket => Path}),
         has(Text, What),
         has(Text, Path),
         ?assertEqual({ok, Before}, file:read_link_info(Path))
     end)
     || {What, Make} <- [{"no socket (directory)", fun file:make_dir/1},
                         {"no socket (a file)", fun(Path) -> file:write_file(Path, <<"precious">>) end},
                         {"no socket (a symbolic link)",
                          fun(Path) -> file:make_symlink(<<Path/binary, ".elsewhere">>, Path) end},
                         {"no socket (other)", fun(Path) -> [] = os:cmd(binary_to_list(<<"mkfifo ", Path/binary>>)), ok end}]].

no_directory_test_() ->
    with_directory(fun(Directory) ->
        Text = error_text(#{socket => filename:join([Directory, <<"missing">>, <<"node.sock">>])}),
        has(Text, "cannot listen at"),
        has(Text, "Its directory must be there")
    end).

stale_socket_test_() ->
    with_directory(fun(Directory) ->
        Path = path(Directory),
        {ok, Left} = gen_tcp:listen(0, [{ifaddr, {local, Path}}]),
        ok = gen_tcp:close(Left),
        ?assert(is_there(Path)),
        {ok, Endpoint} = listen(#{socket => Path}),
        ?assertMatch({{ok, unix}, {ok, _}}, accepted(Endpoint, {unix, Path})),
        ok = megaphone_endpoint:close(Endpoint)
    end).

live_socket_test_() ->
    with_directory(fun(Directory) ->
        Path = path(Directory),
        {ok, Endpoint} = listen(#{socket => Path}),
        has(error_text(#{socket => Path}), "is in use by another process"),
        ?assert(is_there(Path)),
        ok = megaphone_endpoint:close(Endpoint)
    end).

%% Somebody has put a socket of his own in its place.
somebody_elses_socket_test_() ->
    with_directory(fun(Directory) ->
        Path = path(Directory),
        {ok, Endpoint} = listen(#{socket => Path}),
        ok = file:delete(Path),
        {ok, Other} = listen(#{socket => Path}),
        ok = megaphone_endpoint:close(Endpoint),
        ?assertMatch({{ok, unix}, {ok, _}}, accepted(Other, {unix, Path})),
        ok = megaphone_endpoint:close(Other),
        ?assertNot(is_there(Path)),
        ?assertEqual(ok, megaphone_endpoint:close(Other))
    end).

contradictions_test() ->
    has(error_text(#{socket => <<"/x">>, port => 1}), "both socket and port"),
    has(error_text(#{secret_file => <<"/x">>}), "neither socket nor port").

tcp_test() ->
    Port = sidecar_test:free_port(),
    {ok, Endpoint = #{kind := tcp, name := Name}} = listen(#{port => Port}),
    ?assertEqual(iolist_to_binary(io_lib:format("tcp://127.0.0.1:~b", [Port])), Name),
    ?assertMatch({{ok, {127, 0, 0, 1}}, {ok, {tcp, _}}}, accepted(Endpoint, {tcp, Port})),
    Text = error_text(#{port => Port}),
    has(Text, "address already in use"),
    has(Text, Name),
    ok = megaphone_endpoint:close(Endpoint),
    {ok, Again} = listen(#{port => Port}),
    ok = megaphone_endpoint:close(Again).

loopback_test_() ->
    [fun() ->
             {ok, Endpoint} = listen(#{port => sidecar_test:free_port(), ip => Ip}),
             ok = megaphone_endpoint:close(Endpoint)
     end || Ip <- [{127, 0, 0, 1}, {127, 255, 0, 9}] ++ [{0, 0, 0, 0, 0, 0, 0, 1} || has_inet6()]].

has_inet6() ->
    case gen_tcp:listen(0, [inet6, {ip, {0, 0, 0, 0, 0, 0, 0, 1}}]) of
        {ok, Listener} -> ok = gen_tcp:close(Listener), true;
        {error, _} -> false
    end.

beyond_loopback_test_() ->
    [fun() ->
             Port = sidecar_test:free_port(),
             has(error_text(#{port => Port, ip => Ip}), "set sidecar.tls: true, or sidecar.allow_plaintext: true"),
             has(error_text(#{port => Port, ip => Ip, tls => false, allow_plaintext => false}), inet:ntoa(Ip))
     end || Ip <- [{0, 0, 0, 0}, {192, 0, 2, 1}, {0, 0, 0, 0, 0, 0, 0, 0}, {16#fe80, 0, 0, 0, 0, 0, 0, 1},
                   {0, 0, 0, 0, 0, 16#ffff, 16#7f00, 1}]].

allow_plaintext_test() ->
    Port = sidecar_test:free_port(),
    {ok, Endpoint} = listen(#{port => Port, ip => {0, 0, 0, 0}, allow_plaintext => true}),
    ?assertMatch({{ok, {127, 0, 0, 1}}, {ok, {tcp, _}}}, accepted(Endpoint, {tcp, Port})),
    ok = megaphone_endpoint:close(Endpoint),
    has(error_text(#{port => Port, ip => {192, 0, 2, 1}, allow_plaintext => true}), "can't assign requested address").

tls_test_() ->
    with_directory(fun(Directory) ->
        Port = sidecar_test:free_port(),
        #{certfile := CertFile} = sidecar_test:certificates(Directory),
        {ok, Endpoint = #{kind := tls}} = listen(#{port => Port, ip => {0, 0, 0, 0}, tls => true,
                                                   certfile => CertFile}),
        ?assertMatch({{ok, {127, 0, 0, 1}}, {ok, {tls, _}}}, accepted(Endpoint, {tls, Port})),
        %% Erlang's ssl would have a line for each.
        megaphone_test:with_log(
          fun() ->
                  ?assertMatch({{ok, {127, 0, 0, 1}}, {error, _}}, plaintext(Endpoint, Port)),
                  ?assertEqual([], megaphone_test:logged("TLS"))
          end),
        ok = megaphone_endpoint:close(Endpoint)
    end).

plaintext(Endpoint = #{listener := Listener}, Port) ->
    {ok, Connection} = sidecar_standin:connect({tcp, Port}),
    ok = sidecar_standin:message(Connection, sidecar_standin:opening(<<0:256>>)),
    {ok, Socket} = gen_tcp:accept(Listener, 5000),
    {megaphone_endpoint:address(Socket), megaphone_endpoint:secure(Socket, Endpoint, 5000)}.

no_certificate_test_() ->
    {setup,
     fun() -> [megaphone_test:standin("-module(ejabberd_option). hosts() -> [<<\"a\">>]."),
               megaphone_test:standin("-module(ejabberd_pkix). get_certfile(_) -> error.")] end,
     fun(Modules) -> [megaphone_test:remove_standin(Module) || Module <- Modules] end,
     fun() ->
             Port = sidecar_test:free_port(),
             has(error_text(#{port => Port, tls => true}), "there is no certificate"),
             has(error_text(#{port => Port, tls => true, certfile => <<"/nowhere/é.pem"/utf8>>}),
                 <<"sidecar.certfile: /nowhere/é.pem is not there"/utf8>>)
     end}.

%% Without an option of its own, the node's.
ejabberds_certificate_test_() ->
    {setup,
     fun() -> megaphone_test:standin("-module(ejabberd_option). hosts() -> [<<\"a\">>, <<\"b\">>].") end,
     fun megaphone_test:remove_standin/1,
     with_directory(fun(Directory) ->
         #{certfile := CertFile} = sidecar_test:certificates(Directory),
         Pkix = megaphone_test:standin(lists:flatten(io_lib:format(
                    "-module(ejabberd_pkix). get_certfile(<<\"a\">>) -> error; "
                    "get_certfile(_) -> {ok, <<\"~s\">>}.", [CertFile]))),
         Port = sidecar_test:free_port(),
         {ok, Endpoint} = listen(#{port => Port, tls => true}),
         ?assertMatch({_, {ok, {tls, _}}}, accepted(Endpoint, {tls, Port})),
         ok = megaphone_endpoint:close(Endpoint),
         megaphone_test:remove_standin(Pkix)
     end)}.

describe_test() ->
    ?assertEqual([<<"the Unix socket">>, <<"192.0.2.1">>, <<"2001:db8::1">>],
                 [megaphone_endpoint:describe(Address)
                  || Address <- [unix, {192, 0, 2, 1}, {16#2001, 16#db8, 0, 0, 0, 0, 0, 1}]]).
