-module(megaphone_tests).

-include_lib("eunit/include/eunit.hrl").

with(Fun) ->
    proxy_test:connected(#{heartbeat_timeout => 60000},
                         fun(_) ->
                                 {ok, Proxy} = proxy_test:start(1, [{local, <<"shouter">>},
                                                                    {global, <<"shouter">>}]),
                                 Fun(Proxy)
                         end).

a_call_carries_its_time_test_() ->
    with(fun(Proxy) ->
        Self = self(),
        ?assertMatch({call, Self, hi, Left} when Left =< 5000 andalso Left > 3000, megaphone:call(Proxy, hi)),
        [?assertMatch({call, Self, hi, Left} when Left =< 2000 andalso Left > 500,
                                                  megaphone:call(Name, hi, 2000))
         || Name <- [Proxy, shouter, {global, shouter}, {via, global, shouter}, {shouter, node()}]],
        ?assertEqual({call, Self, hi, infinity}, megaphone:call(Proxy, hi, infinity))
    end).

%% Exits as gen_server:call/3 does, and leaves nothing in the mailbox.
exits_test_() ->
    with(fun(Proxy) ->
        ?assertExit({timeout, {megaphone, call, [Proxy, mute, 20]}}, megaphone:call(Proxy, mute, 20)),
        ?assertExit({noproc, {megaphone, call, [nobody, hi, 5000]}}, megaphone:call(nobody, hi)),
        ?assertExit({not_now, {megaphone, call, [_, _, _]}}, megaphone:call(Proxy, {refuse, not_now})),
        _ = proxy_test:seen(Proxy),
        receive Message -> error({unexpected, Message}) after 20 -> ok end
    end).

%% The time is over before the proxy comes to it.
expired_test_() ->
    proxy_test:connected(#{heartbeat_timeout => 60000}, fun(Port) ->
        {ok, Proxy} = proxy_test:start(1),
        ok = sys:suspend(Port),
        gen_server:cast(Proxy, first),
        megaphone_test:until(fun() -> {current_function, {gen, do_call, 4}} =:=
                                          process_info(Proxy, current_function) end),
        %% It waits on, so that its time alone tells.
        Proxy ! {'$megaphone_call', {self(), make_ref()},
                 {mute, erlang:monotonic_time(millisecond) + 20, 20}},
        timer:sleep(40),
        ok = sys:resume(Port),
        ?assertMatch([{cast, 0, first}], proxy_test:seen(Proxy))
    end).

cast_test_() ->
    with(fun(Proxy) ->
        ok = megaphone:cast(shouter, {hi, 1}),
        ?assertEqual([{cast, 0, {hi, 1}}], proxy_test:seen(Proxy))
    end).
