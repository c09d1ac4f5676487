-module(megaphone_sidecar_tests).

-include_lib("eunit/include/eunit.hrl").

%% Nodes whose sidecars come in at a Unix socket, by TCP, and by TLS.

unix() -> #{}.

tcp() -> #{sidecar => #{port => sidecar_test:free_port()}}.

tls(Directory) ->
    #{certfile := CertFile} = sidecar_test:certificates(Directory),
    #{sidecar => #{port => sidecar_test:free_port(), tls => true, certfile => CertFile}}.

each(Fun) ->
    [sidecar_test:with_node(Changes, Fun) || Changes <- [fun(_) -> unix() end, fun(_) -> tcp() end, fun tls/1]].

claim(Changes) -> sidecar_standin:claim(Changes).

join(Where, Changes) -> sidecar_standin:join(Where, claim(Changes)).

until(Condition) -> megaphone_test:until(Condition).

until_refused(Rows) ->
    until(fun() -> sidecar_test:refusals() =:= Rows end).

%% The processes of connections.
connections() ->
    proplists:get_value(active, supervisor:count_children(megaphone_sidecar_sup)).

%% The node has closed it, and said nothing more.
closed(Connection) ->
    ?assertEqual({<<>>, closed}, sidecar_standin:left(Connection, 5000)),
    sidecar_standin:close(Connection).

right_test_() ->
    each(fun(Where, _) ->
        {ok, Connection, Told} = join(Where, #{epoch => 5}),
        ?assertEqual({1000, 5000}, Told),
        ?assertMatch({hello, #{<<"epoch">> := 6, <<"protocol">> := [1]}}, sidecar_standin:frame(Connection)),
        ok = sidecar_standin:send_frame(Connection, sidecar_standin:hello()),
        until(fun() -> sidecar_test:port_state() =:= <<"connected">> end),
        ?assertEqual([{<<"active">>, <<"one">>}], sidecar_test:connected()),
        %% The socket is megaphone_port's now.
        ?assertEqual(0, connections()),
        ?assertMatch(#{<<"os_pid">> := 4711, <<"restarts">> := 0}, megaphone_port:status()),
        ?assertEqual([], sidecar_test:refusals()),
        ok = sidecar_standin:close(Connection),
        until(fun() -> sidecar_test:port_state() =:= <<"waiting">> end),
        ?assertEqual(<<"it closed the connection">>, maps:get(<<"reason">>, megaphone_port:status()))
    end).

%% What the sidecar says arrives in pieces.
byte_by_byte_test_() ->
    each(fun(Where, _) ->
        {ok, Connection} = sidecar_standin:connect(Where, [{nodelay, true} || element(1, Where) =/= unix]),
        Slowly = fun(Message) ->
                         [ok = sidecar_standin:send(Connection, <<Byte>>)
                          || <<Byte>> <= <<(byte_size(Message)):32, Message/binary>>]
                 end,
        Slowly(sidecar_standin:opening(<<1:256>>)),
        {ok, <<"megaphone", 1, Theirs:32/binary>>} = sidecar_standin:receive_message(Connection),
        Slowly(sidecar_standin:proof(claim(#{}), <<1:256>>, Theirs)),
        ?assertMatch({ok, <<0, _/binary>>}, sidecar_standin:receive_message(Connection)),
        ?assertMatch({hello, _}, sidecar_standin:frame(Connection)),
        sidecar_standin:close(Connection)
    end).

%% Five wrong ones lock the address out, the right secret included; no other address is.
wrong_secret_test_() ->
    sidecar_test:with_node(tcp(), fun(Where, _) ->
        [?assertEqual({refused, 1, <<"the secrets of the node and of the sidecar differ">>},
                      join(Where, #{secret => <<"x">>})) || _ <- lists:seq(1, 5)],
        until_refused([{<<"secret">>, 5}]),
        {ok, Locked} = sidecar_standin:connect(Where),
        {refused, 2, Text} = sidecar_standin:open(Locked),
        ?assertNotEqual(nomatch, string:find(Text, "try again in 60 s")),
        closed(Locked),
        ?assertMatch({refused, 2, _}, join(Where, #{})),
        until_refused([{<<"secret">>, 5}, {<<"locked_out">>, 2}]),
        ?assertMatch([{warning, _}], megaphone_test:logged("five wrong secrets within a minute")),
        {ok, Other} = sidecar_standin:connect(Where, [{ip, {127, 0, 0, 2}}]),
        {ok, _, _} = sidecar_standin:joined(Other, claim(#{})),
        ?assertEqual([{<<"active">>, <<"one">>}], sidecar_test:connected()),
        sidecar_standin:close(Other)
    end).

%% The file is read for each handshake; who has not proved anything is not told about it.
secret_file_test_() ->
    sidecar_test:with_node(unix(), fun(Where, Directory) ->
        File = filename:join(Directory, <<"secret">>),
        Other = <<"fedcba9876543210fedcba9876543210">>,
        ok = file:write_file(File, [Other, "\r\n"]),
        ?assertMatch({refused, 1, _}, join(Where, #{})),
        {ok, Connection, _} = join(Where, #{secret => Other}),
        ok = sidecar_standin:close(Connection),
        [begin
             ok = Spoil(),
             {refused, 3, Text} = join(Where, #{secret => Other}),
             ?assertEqual(nomatch, string:find(Text, Directory))
         end || Spoil <- [fun() -> file:write_file(File, "short") end, fun() -> file:delete(File) end]],
        until(fun() -> megaphone_test:logged(binary_to_list(File)) =/= [] end),
        until_refused([{<<"secret">>, 1}, {<<"other">>, 2}])
    end).

%% A proof that was overheard, and what the node said itself, given back to it.
replay_and_reflection_test_() ->
    sidecar_test:with_node(tcp(), fun(Where, _) ->
        {ok, First} = sidecar_standin:connect(Where),
        {ok, {Mine, Theirs}} = sidecar_standin:open(First),
        Claim = claim(#{}),
        Overheard = sidecar_standin:proof(Claim, Mine, Theirs),
        {ok, _} = sidecar_standin:prove(First, {Mine, Theirs}, Claim),
        {ok, Second} = sidecar_standin:connect(Where),
        ok = sidecar_standin:message(Second, sidecar_standin:opening(Mine)),
        {ok, _} = sidecar_standin:receive_message(Second),
        ok = sidecar_standin:message(Second, Overheard),
        ?assertMatch({ok, <<1, _/binary>>}, sidecar_standin:receive_message(Second)),
        closed(Second),
        {ok, Third} = sidecar_standin:connect(Where),
        ok = sidecar_standin:message(Third, sidecar_standin:opening(Theirs)),
        {ok, Challenge} = sidecar_standin:receive_message(Third),
        ok = sidecar_standin:message(Third, Challenge),
        closed(Third),
        until_refused([{<<"secret">>, 1}, {<<"protocol">>, 1}]),
        ?assertEqual([{<<"active">>, <<"one">>}], sidecar_test:connected()),
        sidecar_standin:close(First)
    end).

garbage_test_() ->
    [sidecar_test:with_node(unix(), fun(Where, _) ->
         {ok, Connection} = sidecar_standin:connect(Where),
         ok = sidecar_standin:send(Connection, Bytes),
         closed(Connection),
         until_refused([{<<"protocol">>, 1}]),
         until(fun() -> connections() =:= 0 end)
     end)
     || Bytes <- [<<0:32>>, <<513:32>>, <<16#ffffffff:32>>, <<131, 104, 2, 100>>, <<22, 3, 1, 2>>,
                  <<46:32, 0:(46 * 8)>>, <<10:32, "megaphone", 1>>]].

claim_test_() ->
    sidecar_test:with_node(unix(), fun(Where, _) ->
        [?assertEqual(closed, join(Where, Changes))
         || Changes <- [#{identity => <<"a b">>}, #{identity => <<>>}, #{identity => binary:copy(<<"x">>, 65)},
                        #{epoch => 16#1000000000000}, #{identity => binary:copy(<<"x">>, 1000)}]],
        until_refused([{<<"protocol">>, 5}]),
        %% Not a guess at the secret.
        {ok, Connection, _} = join(Where, #{}),
        sidecar_standin:close(Connection)
    end).

version_test_() ->
    sidecar_test:with_node(unix(), fun(Where, _) ->
        {ok, Connection} = sidecar_standin:connect(Where),
        ok = sidecar_standin:message(Connection, <<"megaphone", 2, 0:256>>),
        {ok, <<5, Text/binary>>} = sidecar_standin:receive_message(Connection),
        ?assertNotEqual(nomatch, string:find(Text, "upgrade the older")),
        closed(Connection),
        until_refused([{<<"protocol">>, 1}])
    end).

%% A browser, a prober of metrics: an answer that it can show, whole, and an orderly end.
http_test_() ->
    each(fun(Where, _) ->
        [begin
             {ok, Connection} = sidecar_standin:connect(Where, [{show_econnreset, true} || element(1, Where) =:= tcp]),
             ok = sidecar_standin:send(Connection, [Request, " HTTP/1.1\r\nHost: megaphone:8471\r\nX: ",
                                                    binary:copy(<<"x">>, 4000), "\r\n\r\n"]),
             {Answer, closed} = sidecar_standin:left(Connection, 5000),
             ?assertMatch({0, _}, binary:match(Answer, <<"HTTP/1.1 400 ">>)),
             [Head, Body] = binary:split(Answer, <<"\r\n\r\n">>),
             {match, [Length]} = re:run(Head, "\r\nContent-Length: ([0-9]+)\r\n", [{capture, all_but_first, list}]),
             ?assertEqual(list_to_integer(Length), byte_size(Body)),
             ok = sidecar_standin:close(Connection)
         end || Request <- ["GET /metrics", "POST /v1/broadcasts", "HEAD /", "PUT /", "OPTIONS *"]],
        until_refused([{<<"protocol">>, 5}]),
        ?assertMatch([_], megaphone_test:logged("it speaks HTTP"))
    end).

%% Silent, slow, or not finished: five seconds for all of it, that of TLS included.
silence_test_() ->
    sidecar_test:with_node(fun tls/1, fun(Where = {tls, Port}, _) ->
        Began = erlang:monotonic_time(millisecond),
        {ok, NoTls} = sidecar_standin:connect({tcp, Port}),
        {ok, Silent} = sidecar_standin:connect(Where),
        {ok, Half} = sidecar_standin:connect(Where),
        ok = sidecar_standin:send(Half, <<0, 0>>),
        {ok, Opened} = sidecar_standin:connect(Where),
        {ok, _} = sidecar_standin:open(Opened),
        {ok, Slow} = sidecar_standin:connect(Where),
        Message = <<42:32, (sidecar_standin:opening(<<1:256>>))/binary>>,
        _ = [begin
                 _ = sidecar_standin:send(Slow, <<Byte>>),
                 receive after 450 -> ok end
             end || <<Byte>> <= binary:part(Message, 0, 10)],
        [closed(Connection) || Connection <- [NoTls, Silent, Half, Opened, Slow]],
        Took = erlang:monotonic_time(millisecond) - Began,
        ?assert(Took >= 4900),
        ?assert(Took < 8000),
        until_refused([{<<"protocol">>, 1}, {<<"silent">>, 4}]),
        until(fun() -> connections() =:= 0 end)
    end).

closing_in_the_middle_test_() ->
    each(fun(Where, _) ->
        Stages = [fun(_) -> ok end,
                  fun(Connection) -> sidecar_standin:send(Connection, <<0, 0>>) end,
                  fun(Connection) -> sidecar_standin:message(Connection, sidecar_standin:opening(<<0:256>>)) end,
                  fun(Connection) -> {ok, _} = sidecar_standin:open(Connection) end,
                  fun(Connection) ->
                          {ok, _} = sidecar_standin:open(Connection),
                          sidecar_standin:send(Connection, <<59:32, 0>>)
                  end],
        [begin
             {ok, Connection} = sidecar_standin:connect(Where),
             _ = Stage(Connection),
             ok = sidecar_standin:close(Connection)
         end || Stage <- Stages],
        until_refused([{<<"silent">>, length(Stages)}]),
        until(fun() -> connections() =:= 0 end),
        {ok, Last, _} = join(Where, #{}),
        sidecar_standin:close(Last)
    end).

%% Standing by.

first(Where) ->
    {ok, First} = sidecar_standin:start(Where, #{identity => <<"first">>}),
    until(fun() -> sidecar_test:port_state() =:= <<"connected">> end),
    First.

%% What a connection reads anew for each beat, and megaphone_port does not.
beat_each(Ms) ->
    Options = persistent_term:get({mod_megaphone, options}),
    persistent_term:put({mod_megaphone, options}, Options#{heartbeat_interval := Ms}).

%% The second of two, and its connection.
second(Where, Changes) ->
    First = first(Where),
    {ok, Connection, _} = join(Where, Changes#{identity => <<"second">>}),
    {First, Connection}.

until_alone() ->
    until(fun() -> sidecar_test:connected() =:= [{<<"active">>, <<"first">>}] end),
    ?assertEqual(0, connections()).

standby_hears_the_node_test_() ->
    each(fun(Where, _) ->
        First = first(Where),
        beat_each(100),
        {ok, Connection, {100, 5000}} = join(Where, #{identity => <<"second">>}),
        ?assertEqual([{<<"active">>, <<"first">>}, {<<"standby">>, <<"second">>}], sidecar_test:connected()),
        ?assertEqual({heartbeat, 0, 0}, sidecar_standin:frame(Connection)),
        ok = sidecar_standin:send_frame(Connection, {heartbeat, 0, 0}),
        ?assertEqual({heartbeat, 1, 0}, sidecar_standin:frame(Connection)),
        ok = sidecar_standin:close(Connection),
        until_alone(),
        sidecar_standin:stop(First)
    end).

standby_says_more_test_() ->
    [sidecar_test:with_node(unix(), fun(Where, _) ->
         {First, Connection} = second(Where, #{}),
         ok = sidecar_standin:send(Connection, Bytes),
         until_alone(),
         until_refused([{<<"protocol">>, 1}]),
         ?assertMatch([_], megaphone_test:logged("it stood by and sent more than heartbeats")),
         sidecar_standin:close(Connection),
         sidecar_standin:stop(First)
     end)
     || Bytes <- [<<16#ffffffff:32>>, <<0:32>>, frame(sidecar_standin:hello()), frame({credit, 1}),
                  frame({log, info, <<"a">>, <<"b">>}), <<4:32, "junk">>,
                  binary:copy(frame({heartbeat, 0, 0}), 20000)]].

frame(Term) ->
    Payload = term_to_binary(Term),
    <<(byte_size(Payload)):32, Payload/binary>>.

standby_falls_silent_test_() ->
    sidecar_test:with_node(#{heartbeat_interval => 100, heartbeat_timeout => 300}, fun(Where, _) ->
        {ok, First} = sidecar_standin:start(Where, #{identity => <<"first">>, beat => 20}),
        {ok, Connection, {100, 300}} = join(Where, #{identity => <<"second">>}),
        until(fun() -> length(sidecar_test:connected()) =:= 1 end),
        {_, closed} = sidecar_standin:left(Connection, 5000),
        sidecar_standin:close(Connection),
        sidecar_standin:stop(First)
    end).

%% It beats, and reads nothing: what the node writes has no room after a while.
standby_does_not_read_test_() ->
    sidecar_test:with_node(unix(), fun(Where, _) ->
        First = first(Where),
        beat_each(1),
        {ok, Connection, _} = join(Where, #{identity => <<"second">>}),
        Ports = length(erlang:ports()),
        Beats = spawn_link(fun() -> beat(Connection) end),
        until_alone(),
        %% Its socket is gone, whatever waits in it.
        ?assert(length(erlang:ports()) < Ports),
        unlink(Beats),
        exit(Beats, kill),
        sidecar_standin:close(Connection),
        sidecar_standin:stop(First)
    end).

beat(Connection) ->
    _ = sidecar_standin:send_frame(Connection, {heartbeat, 0, 0}),
    receive after 20 -> beat(Connection) end.

%% Heartbeats that are on their way when its turn comes are no reason to end it.
heartbeats_cross_the_hello_test_() ->
    each(fun(Where, _) ->
        {First, Connection} = second(Where, #{}),
        <<Part:7/binary, Rest/binary>> = frame({heartbeat, 1, 0}),
        ok = sidecar_standin:send(Connection, [frame({heartbeat, 0, 0}), Part]),
        sidecar_standin:stop(First),
        Hello = fun Hello() ->
                        case sidecar_standin:frame(Connection) of
                            {heartbeat, _, _} -> Hello();
                            Other -> Other
                        end
                end,
        ?assertMatch({hello, #{<<"epoch">> := 2}}, Hello()),
        ok = sidecar_standin:send(Connection, [Rest, frame({heartbeat, 2, 0}), frame(sidecar_standin:hello())]),
        until(fun() -> sidecar_test:port_state() =:= <<"connected">> end),
        ?assertEqual([{<<"active">>, <<"second">>}], sidecar_test:connected()),
        sidecar_standin:close(Connection)
    end).

client_certificate_test_() ->
    sidecar_test:with_node(
      fun(Directory) ->
              #{certfile := CertFile, cafile := CaFile, client := Client} = sidecar_test:certificates(Directory),
              persistent_term:put(?MODULE, Client),
              #{sidecar => #{port => sidecar_test:free_port(), tls => true, certfile => CertFile, cafile => CaFile}}
      end,
      fun(Where, _) ->
              Client = persistent_term:get(?MODULE),
              persistent_term:erase(?MODULE),
              _ = case sidecar_standin:connect(Where) of
                      %% TLS 1.3: the client is done before the node is.
                      {ok, Without} -> ?assertMatch({<<>>, _}, sidecar_standin:left(Without, 5000));
                      {error, _} -> ok
                  end,
              until_refused([{<<"protocol">>, 1}]),
              {ok, With} = sidecar_standin:connect(Where, Client),
              {ok, _, _} = sidecar_standin:joined(With, claim(#{})),
              sidecar_standin:close(With)
      end).

%% A certificate that is none is not the other side's fault.
bad_certificate_test_() ->
    sidecar_test:with_node(
      fun(Directory) -> #{sidecar => #{port => sidecar_test:free_port(), tls => true,
                                       certfile => filename:join(Directory, <<"secret">>)}} end,
      fun(Where, _) ->
              ?assertMatch({error, _}, sidecar_standin:connect(Where)),
              until_refused([{<<"other">>, 1}]),
              ?assertMatch([_], megaphone_test:logged("the node's certificate cannot be used"))
      end).

%% Whatever breaks has the secret at hand, and nobody reads it in a crash report.
nothing_is_shown_test_() ->
    {setup,
     fun() -> megaphone_test:standin(
                "-module(megaphone_handshake). new() -> #{}. opened(_, Opened) -> {ok, <<\"challenge\">>, Opened}. "
                "secret(_) -> {ok, <<\"topsecret\">>}. proved(_, Secret, _) -> crypto:mac(hmac, sha256, Secret, [broken]).")
     end,
     fun megaphone_test:remove_standin/1,
     sidecar_test:with_node(unix(), fun(Where, _) ->
         {ok, Connection} = sidecar_standin:connect(Where),
         ok = sidecar_standin:message(Connection, <<"opening">>),
         {ok, <<"challenge">>} = sidecar_standin:receive_message(Connection),
         ok = sidecar_standin:message(Connection, <<"proof">>),
         closed(Connection),
         until(fun() -> megaphone_test:logged("crasher") =/= [] end),
         ?assertEqual([], megaphone_test:logged("topsecret")),
         ?assertEqual([], megaphone_test:logged(lists:flatten(io_lib:format("~w", [<<"topsecret">>]))))
     end)}.
