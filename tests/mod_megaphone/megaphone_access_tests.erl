-module(megaphone_access_tests).

-include_lib("eunit/include/eunit.hrl").

with(Processes, Functions, Fun) -> with(Processes, [], Functions, Fun).

with(Processes, Nodes, Functions, Fun) ->
    {setup,
     fun() -> persistent_term:put({mod_megaphone, options}, #{allowed_processes => Processes,
                                                              allowed_nodes => Nodes,
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
        [?assert(megaphone_access:may_reach(Target)) || Target <- [self(), anything, {global, anything}, {anything, node()}]],
        [?assertNot(megaphone_access:may_reach(Target))
         || Target <- [<<"x">>, {x, 'a@nowhere'}, {<<"x">>, node()}, {x, 1}, {x, node(), 1}, elsewhere(), 1, [], {}]]
    end).

%% A pid of another node.
elsewhere() ->
    binary_to_term(<<131, 88, 119, 9, "a@nowhere", 77:32, 0:32, 1:32>>).

%% Both options open a name at another node.
nodes_test_() ->
    [with([access_name], ['a@nowhere'], [], fun() ->
         ?assert(megaphone_access:may_reach({access_name, 'a@nowhere'})),
         [?assertNot(megaphone_access:may_reach(Target))
          || Target <- [{access_name, 'b@nowhere'}, {kernel_sup, 'a@nowhere'}, elsewhere()]],
         [?assertEqual(Option, megaphone_access:closed_by(Target))
          || {Target, Option} <- [{{access_name, 'b@nowhere'}, "allowed_nodes"}, {kernel_sup, "allowed_processes"},
                                  {{kernel_sup, 'a@nowhere'}, "allowed_processes"}, {1, "allowed_processes"}]]
     end),
     with(all, all, [], fun() ->
         [?assert(megaphone_access:may_reach(Target)) || Target <- [{anything, 'a@nowhere'}, elsewhere()]]
     end),
     %% A process that is registered as `global` is not all of them.
     with([global], [], [], fun() -> ?assertNot(megaphone_access:may_reach({global, access_other})) end)].

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
    ?assertEqual([self(), whereis(kernel_sup), undefined, undefined, whereis(kernel_sup), undefined, disconnected],
                 [megaphone_access:resolve(Target)
                  || Target <- [self(), kernel_sup, access_nobody, {global, access_nobody}, {kernel_sup, node()},
                                {access_nobody, node()}, {kernel_sup, 'a@nowhere'}]]).

%% A port with a name is no process.
a_port_test() ->
    Port = open_port({spawn, "cat"}, []),
    true = register(access_port, Port),
    ?assertEqual(undefined, megaphone_access:resolve(access_port)),
    port_close(Port).

outline_test() ->
    [?assertEqual(Text, lists:flatten(io_lib:format("~ts", [megaphone_access:outline(Target)])))
     || {Target, Text} <- [{kernel_sup, "kernel_sup"}, {self(), pid_to_list(self())}, {{global, a}, "{global,a}"},
                           {{a, b@c}, "{a,b@c}"},
                           {{global, <<"a secret">>}, "what is no process"}, {<<"a secret">>, "what is no process"},
                           {'a\nb', "'a\\nb'"}]].
