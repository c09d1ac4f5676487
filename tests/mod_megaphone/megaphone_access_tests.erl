-module(megaphone_access_tests).

-include_lib("eunit/include/eunit.hrl").

with(Processes, Functions, Fun) ->
    {setup,
     fun() -> persistent_term:put({mod_megaphone, options}, #{allowed_processes => Processes,
                                                              allowed_functions => Functions}) end,
     fun(_) -> persistent_term:erase({mod_megaphone, options}) end,
     ?_test(Fun())}.

nothing_test_() ->
    with([], [], fun() ->
        [?assertNot(megaphone_access:may_reach(Target))
         || Target <- [self(), kernel_sup, {global, a}, whereis(kernel_sup), x, <<"x">>, {x, node()}]],
        ?assertEqual(refused, megaphone_access:function(<<"os">>, <<"cmd">>, ["true"]))
    end).

%% A pid is what its name is, for as long as it has it.
listed_test_() ->
    with([kernel_sup, access_name, access_global], [], fun() ->
        [?assert(megaphone_access:may_reach(Target)) || Target <- [kernel_sup, whereis(kernel_sup), {global, access_global}]],
        ?assertNot(megaphone_access:may_reach(self())),
        true = register(access_name, self()),
        ?assert(megaphone_access:may_reach(self())),
        true = unregister(access_name),
        ?assertNot(megaphone_access:may_reach(self()))
    end).

all_test_() ->
    with(all, [], fun() ->
        [?assert(megaphone_access:may_reach(Target)) || Target <- [self(), anything, {global, anything}]],
        [?assertNot(megaphone_access:may_reach(Target)) || Target <- [<<"x">>, {x, node()}, 1, [], {}]]
    end).

proxies_test_() ->
    with([], [], fun() ->
        _ = ets:new(megaphone_processes, [named_table]),
        true = ets:insert(megaphone_processes, {self()}),
        yes = global:register_name(access_proxy, self()),
        true = register(access_proxy, self()),
        [?assert(megaphone_access:may_reach(Target)) || Target <- [self(), access_proxy, {global, access_proxy}]],
        ?assertNot(megaphone_access:may_reach(whereis(kernel_sup))),
        true = unregister(access_proxy),
        global:unregister_name(access_proxy)
    end).

functions_test_() ->
    with([], [<<"lists:reverse/1">>, <<"erlang:now/0">>], fun() ->
        ?assertEqual({ok, lists, reverse}, megaphone_access:function(<<"lists">>, <<"reverse">>, [[]])),
        ?assertEqual({ok, erlang, now}, megaphone_access:function(<<"erlang">>, <<"now">>, [])),
        [?assertEqual(refused, megaphone_access:function(Module, Function, Args))
         || {Module, Function, Args} <-
                [{<<"lists">>, <<"reverse">>, []}, {<<"lists">>, <<"reverse">>, x}, {<<"lists">>, <<"reverse">>, [a | b]},
                 {lists, reverse, [[]]}, {<<"lists:reverse/1">>, <<>>, [[]]}, {<<>>, <<"lists:reverse">>, [[]]}]]
    end).

resolve_test() ->
    ?assertEqual([self(), whereis(kernel_sup), undefined, undefined],
                 [megaphone_access:resolve(Target) || Target <- [self(), kernel_sup, access_nobody, {global, access_nobody}]]).

%% A port with a name is no process.
a_port_test() ->
    Port = open_port({spawn, "cat"}, []),
    true = register(access_port, Port),
    ?assertEqual(undefined, megaphone_access:resolve(access_port)),
    port_close(Port).

outline_test() ->
    [?assertEqual(Text, lists:flatten(io_lib:format("~ts", [megaphone_access:outline(Target)])))
     || {Target, Text} <- [{kernel_sup, "kernel_sup"}, {self(), pid_to_list(self())}, {{global, a}, "{global,a}"},
                           {{global, <<"a secret">>}, "what is no process"}, {<<"a secret">>, "what is no process"},
                           {'a\nb', "'a\\nb'"}]].
