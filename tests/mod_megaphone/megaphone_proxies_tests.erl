-module(megaphone_proxies_tests).

-include_lib("eunit/include/eunit.hrl").

with(Changes, Fun) ->
    proxy_test:connected(Changes, fun(_) -> Fun() end).

active() ->
    proplists:get_value(active, supervisor:count_children(megaphone_proxies)).

names_test_() ->
    with(#{}, fun() ->
        Names = [{local, <<"py_a">>}, {global, <<"py_a">>}],
        {ok, Proxy} = proxy_test:start(1, Names),
        Self = self(),
        [?assertEqual({call, Self, hi, infinity}, gen_server:call(Name, hi))
         || Name <- [Proxy, py_a, {global, py_a}, {py_a, node()}]],
        ?assertMatch({error, {badarg, _}}, proxy_test:start(2, Names)),
        ?assertMatch({error, {refused, _}}, proxy_test:start(2, [{global, <<"py_b">>}, {local, <<"kernel_sup">>}])),
        ?assertEqual(undefined, global:whereis_name(py_b)),
        %% What has failed leaves nothing, not even its number.
        megaphone_test:until(fun() -> active() =:= 1 end),
        {ok, _} = proxy_test:start(2, [{local, <<"py_b">>}]),
        %% Names are free when the process ends.
        proxy_test:finish(Proxy, normal),
        megaphone_test:until(fun() -> {undefined, undefined} =:= {whereis(py_a), global:whereis_name(py_a)} end),
        ?assertMatch({ok, _}, proxy_test:start(3, Names)),
        ?assertEqual([], megaphone_test:logged("megaphone_prox"))
    end).

the_program_ends_test_() ->
    with(#{}, fun() ->
        {ok, _} = proxy_test:start(1, [{local, <<"py_a">>}]),
        {error, disconnected} = megaphone_port:call(<<"exit">>, 1, 5000),
        megaphone_test:until(fun() -> maps:get(<<"restarts">>, megaphone_port:status()) =:= 1 andalso
                                          maps:get(<<"state">>, megaphone_port:status()) =:= <<"connected">> end),
        ?assertEqual(0, active()),
        ?assertMatch({ok, _}, proxy_test:start(1, [{local, <<"py_a">>}]))
    end).

%% The supervisor's end is that of all proxies, and Python learns of it.
the_proxies_end_test_() ->
    with(#{}, fun() ->
        {ok, Proxy} = proxy_test:start(1, [{local, <<"py_a">>}]),
        Supervisor = whereis(megaphone_proxies),
        unlink(Supervisor),
        exit(Supervisor, shutdown),
        ?assertEqual(noproc, begin proxy_test:ended(Supervisor), proxy_test:ended(Proxy) end),
        ?assertEqual(undefined, whereis(py_a)),
        ?assertMatch({error, {noproc, _}}, proxy_test:start(2)),
        {ok, _} = megaphone_proxies:start_link(),
        {ok, Again} = proxy_test:start(1),
        ?assertMatch([{gone, 0, killed}], proxy_test:seen(Again))
    end).

bounded_test_() ->
    with(#{max_processes => 2}, fun() ->
        [{ok, _}, {ok, _}] = [proxy_test:start(N) || N <- [1, 2]],
        ?assertMatch({error, {overload, _}}, proxy_test:start(3)),
        ?assertMatch({error, {badarg, _}}, proxy_test:start(2)),
        ?assertEqual(2, maps:get(<<"processes">>, megaphone_port:status()))
    end).

what_is_no_start_test_() ->
    with(#{}, fun() ->
        [?assertMatch({error, {badarg, _}}, proxy_test:ask(<<"processes">>, Request))
         || Request <- [start, {start, 0, []}, {start, <<"1">>, []}, {start, 1, x}, {start, 1, [a]}]]
    end).

%% Only a call of the program's may start one.
nobody_else_test_() ->
    with(#{}, fun() ->
        ?assertMatch({error, {noproc, _}}, megaphone_proxies:start(1, [{local, <<"py_a">>}])),
        megaphone_test:until(fun() -> active() =:= 0 end),
        ?assertEqual(undefined, whereis(py_a))
    end).
