-module(megaphone_effects_tests).

-include_lib("eunit/include/eunit.hrl").

with(Options, Fun) ->
    {setup,
     fun() -> persistent_term:put({mod_megaphone, options},
                                  maps:merge(#{allowed_processes => [], allowed_nodes => []}, Options)) end,
     fun(_) -> persistent_term:erase({mod_megaphone, options}) end,
     ?_test(begin
                Named = spawn(fun() -> receive stop -> ok end end),
                true = register(effects_named, Named),
                try Fun(Named)
                after exit(Named, kill), proxy_test:ended(Named)
                end
            end)}.

new() -> megaphone_effects:new(whereis(kernel_sup)).

do(Kind, Term) -> element(1, do(Kind, 0, Term, new())).

do(Kind, Ref, Term, Effects) ->
    Self = self(),
    {Result, Next} = megaphone_effects:do(Kind, Ref, Term, fun(Pid) -> Pid =:= Self end, Effects),
    {case Result of
         {refused, Outline} -> {refused, lists:flatten(io_lib:format("~ts", [Outline]))};
         _ -> Result
     end, Next}.

%% Nodes that are not connected; tests/e2e/test_cluster.py has one that is.
other_nodes_test_() ->
    with(#{allowed_processes => [effects_named], allowed_nodes => ['a@nowhere']}, fun(_) ->
        ?assertEqual([ok, ok], [do(Kind, {{effects_named, 'a@nowhere'}, hi}) || Kind <- [send, cast]]),
        ?assertEqual({down, {effects_named, 'a@nowhere'}, noconnection}, do(monitor, {effects_named, 'a@nowhere'})),
        ?assertEqual(ok, do(send, {{effects_named, node()}, hi})),
        ?assertEqual({refused, "allowed_nodes does not allow {effects_named,b@nowhere}"},
                     do(monitor, {effects_named, 'b@nowhere'})),
        ?assertEqual({refused, "allowed_processes does not allow {kernel_sup,a@nowhere}"},
                     do(send, {{kernel_sup, 'a@nowhere'}, hi})),
        %% Exits and links are for pids only, as in Erlang.
        [?assertMatch({refused, _}, do(Kind, Term))
         || {Kind, Term} <- [{link, {effects_named, 'a@nowhere'}}, {exit_signal, {{effects_named, 'a@nowhere'}, x}}]]
    end).

%% Who waits for an answer may be reached, but not by everything.
callers_test_() ->
    with(#{}, fun(Named) ->
        Self = self(),
        ?assertEqual([ok, ok, ok], [do(send, {Self, hi}), do(link, Self), do(unlink, Self)]),
        receive hi -> ok end,
        ?assertMatch([{refused, _}, {refused, _}], [do(cast, {Self, hi}), do(exit_signal, {Self, hi})]),
        Why = "allowed_processes does not allow " ++ pid_to_list(Named),
        [?assertEqual({refused, Why}, do(Kind, Term))
         || {Kind, Term} <- [{send, {Named, hi}}, {link, Named}, {unlink, Named}, {exit_signal, {Named, kill}}]],
        ?assertEqual({refused, "allowed_processes does not allow effects_named"}, do(cast, {effects_named, <<"a secret">>}))
    end).

what_is_nonsense_test_() ->
    with(#{allowed_processes => all}, fun(_) ->
        [?assertEqual({refused, "allowed_processes does not allow what is no process"}, do(Kind, Term))
         || {Kind, Term} <- [{send, x}, {send, {<<"a secret">>, x}}, {link, name}, {exit_signal, {name, x}},
                             {cast, {1, 2, 3}}, {unlink, []}]],
        ?assertMatch({refused, _}, do(unlink, whereis(kernel_sup))),
        ?assertEqual(ok, do(send, {effects_nobody, hi}))
    end).

listed_test_() ->
    with(#{allowed_processes => [effects_named, effects_nobody]}, fun(Named) ->
        ?assertEqual([ok, ok, ok], [do(Kind, Term) || {Kind, Term} <- [{link, Named}, {unlink, Named},
                                                                       {send, {effects_nobody, hi}}]]),
        ?assertEqual(ok, do(exit_signal, {Named, kill})),
        ?assertEqual(noproc, proxy_test:ended(Named))
    end).

links_test_() ->
    with(#{allowed_processes => all}, fun(Named) ->
        false = process_flag(trap_exit, true),
        Spawn = fun() -> spawn(fun() -> receive {stop, Why} -> exit(Why) end end) end,
        %% The link is gone, and its exit signal is in the mailbox.
        End = fun(Pid, Why) ->
                      Pid ! {stop, Why},
                      megaphone_test:until(fun() -> {messages, All} = process_info(self(), messages),
                                                    lists:member({'EXIT', Pid, Why}, All) end)
              end,
        {ok, One} = do(link, 0, Named, new()),
        ?assertEqual({signal, One}, megaphone_effects:exited(Named, One)),
        ?assertEqual({ok, new()}, do(unlink, 0, Named, One)),
        {links, Links} = process_info(self(), links),
        ?assertNot(lists:member(Named, Links)),
        ?assertEqual({signal, new()}, megaphone_effects:exited(Named, new())),
        ?assertEqual({ok, new()}, do(link, 0, self(), new())),

        Ends = Spawn(),
        {ok, Two} = do(link, 0, Ends, new()),
        End(Ends, its_end),
        ?assertEqual({link, new()}, megaphone_effects:exited(Ends, Two)),
        receive {'EXIT', Ends, its_end} -> ok end,
        %% Once a link is taken back it has no effect, though its other end had ended before.
        Ended = Spawn(),
        {ok, Three} = do(link, 0, Ended, new()),
        End(Ended, its_end),
        ?assertEqual({ok, new()}, do(unlink, 0, Ended, Three)),
        receive Message -> error({unexpected, Message}) after 20 -> ok end,
        true = process_flag(trap_exit, false)
    end).

monitors_test_() ->
    with(#{allowed_processes => [effects_named, effects_nobody]}, fun(Named) ->
        {ok, One} = do(monitor, 7, effects_named, new()),
        {ok, Two} = do(monitor, 8, Named, One),
        {ok, Three} = do(monitor, 9, Named, Two),
        {ok, Ended} = do(demonitor, 9, [], Three),
        ?assertEqual({{down, effects_nobody, noproc}, Ended}, do(monitor, 10, effects_nobody, Ended)),
        ?assertEqual({{refused, "allowed_processes does not allow kernel_sup"}, Ended}, do(monitor, 11, kernel_sup, Ended)),
        %% A number that is used again takes the place of its former self.
        {ok, Again} = do(monitor, 7, Named, Ended),
        Named ! stop,
        Down = fun(Effects) ->
                       receive {'DOWN', Ref, process, _, normal} -> megaphone_effects:down(Ref, Effects)
                       after 5000 -> error(late)
                       end
               end,
        {N, Named, Rest} = Down(Again),
        {M, Named, Last} = Down(Rest),
        ?assertEqual([7, 8], lists:sort([N, M])),
        ?assertEqual(new(), Last),
        receive Message -> error({unexpected, Message}) after 20 -> ok end,
        ?assertEqual(error, megaphone_effects:down(make_ref(), Last))
    end).

monitors_are_bounded_test_() ->
    with(#{allowed_processes => all}, fun(Named) ->
        Full = lists:foldl(fun(N, Effects) -> {ok, Next} = do(monitor, N, Named, Effects), Next end,
                           new(), lists:seq(1, 10000)),
        ?assertMatch({{refused, _}, Full}, do(monitor, 10001, Named, Full))
    end).
