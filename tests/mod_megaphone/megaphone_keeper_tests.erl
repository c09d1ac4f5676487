-module(megaphone_keeper_tests).

-behaviour(supervisor).

%% The stand-in for ejabberd's own supervisor.
-export([init/1]).

-include_lib("eunit/include/eunit.hrl").

%% The tree's other modules, as far as the keeper and the supervisor see them.
-define(BROADCASTS, "-module(megaphone_broadcasts). "
        "start_link() -> {ok, spawn_link(fun() -> register(megaphone_broadcasts, self()), "
        "                                         receive stop -> ok end end)}.").
-define(FANOUT_SUP, "-module(megaphone_fanout_sup). "
        "start_link() -> {ok, spawn_link(fun() -> receive stop -> ok end end)}.").
-define(NO_BROADCASTS, "-module(megaphone_broadcasts). start_link() -> {error, {broken, <<\"x\">>}}.").

with_keeper(Broadcasts, Changes, Fun) ->
    {timeout, 60,
     fun() ->
             Modules = [megaphone_test:standin(Source) || Source <- [Broadcasts, ?FANOUT_SUP]],
             Above = supervisor(),
             try
                 megaphone_test:with_log(
                   fun() ->
                           Spec = megaphone_keeper:child_spec(megaphone_test:options("answers", Changes)),
                           {ok, Keeper} = supervisor:start_child(Above, Spec),
                           Fun(Above, Keeper)
                   end)
             after
                 unlink(Above),
                 Ref = monitor(process, Above),
                 exit(Above, shutdown),
                 receive {'DOWN', Ref, process, Above, _} -> ok end,
                 ?assertEqual(undefined, whereis(megaphone_sup)),
                 [megaphone_test:remove_standin(Module) || Module <- Modules]
             end
     end}.

%% As strict as ejabberd's own: more than 10 restarts in a second end it.
supervisor() ->
    {ok, Above} = supervisor:start_link(?MODULE, []),
    Above.

init([]) -> {ok, {{one_for_one, 10, 1}, []}}.

pid(Name) ->
    megaphone_test:until(fun() -> case whereis(Name) of undefined -> false; Pid -> Pid end end).

%% SIGKILL has been sent; the kernel may take a moment to carry it out.
gone(Group) ->
    megaphone_test:until(fun() -> megaphone_test:group_is_gone(Group) end, 2000).

tree_test_() ->
    with_keeper(?BROADCASTS, #{}, fun(_, _) ->
        Sup = pid(megaphone_sup),
        megaphone_test:until(fun() -> length(supervisor:which_children(Sup)) =:= 6 end),
        ?assertEqual([megaphone_broadcasts, megaphone_proxies, megaphone_port, megaphone_sidecars_sup,
                      megaphone_fanout_sup, megaphone_observer_sup],
                     lists:reverse([Id || {Id, _, _, _} <- supervisor:which_children(Sup)])),
        ?assertEqual([megaphone_heartbeat, megaphone_overloads, megaphone_sampler],
                     lists:sort([Id || {Id, _, _, _} <-
                                           supervisor:which_children(megaphone_observer_sup)]))
    end).

stop_ends_everything_test_() ->
    with_keeper(?BROADCASTS, #{}, fun(Above, _) ->
        megaphone_test:until(fun() -> maps:get(<<"state">>, megaphone_port:status()) =:= <<"connected">> end),
        Group = maps:get(<<"os_pid">>, megaphone_port:status()),
        ok = supervisor:terminate_child(Above, megaphone_keeper),
        ok = supervisor:delete_child(Above, megaphone_keeper),
        ?assertEqual([undefined, undefined, undefined],
                     [whereis(Name) || Name <- [megaphone_keeper, megaphone_sup, megaphone_port]]),
        true = gone(Group)
    end).

%% A tree that cannot start: one line, and the keeper lives.
broken_tree_test_() ->
    with_keeper(?NO_BROADCASTS, #{}, fun(_, Keeper) ->
        megaphone_test:until(fun() -> megaphone_test:logged("ended again") =/= [] end),
        ?assertMatch([{error, _}], megaphone_test:logged("ended for a bug")),
        ?assert(is_process_alive(Keeper)),
        ?assertMatch({ok, #{}}, megaphone_keeper:options())
    end).

%% A tree that gives up is started again, and the one above never sees it.
restarted_tree_test_() ->
    with_keeper(?BROADCASTS, #{}, fun(_, Keeper) ->
        First = pid(megaphone_sup),
        Kill = fun Kill() ->
                       case whereis(megaphone_sup) of
                           First -> exit(pid(megaphone_broadcasts), kill), receive after 5 -> Kill() end;
                           _ -> ok
                       end
               end,
        Kill(),
        ?assert(pid(megaphone_sup) =/= First),
        ?assert(is_process_alive(Keeper))
    end).

%% Killed as fast as it can be, for longer than the period of the one above.
keeper_killed_without_end_test_() ->
    with_keeper(?BROADCASTS, #{}, fun(Above, _) ->
        Until = erlang:monotonic_time(millisecond) + 2500,
        Kill = fun Kill(N) ->
                       case erlang:monotonic_time(millisecond) < Until of
                           true -> exit(pid(megaphone_keeper), kill), Kill(N + 1);
                           false -> N
                       end
               end,
        ?assert(Kill(0) > 5),
        ?assert(is_process_alive(Above)),
        _ = pid(megaphone_sup)
    end).

reload_test_() ->
    with_keeper(?BROADCASTS, #{}, fun(_, _) ->
        _ = pid(megaphone_port),
        Options = megaphone_test:options("answers", #{config_file => <<"/x">>}),
        ok = megaphone_keeper:reload(Options),
        ?assertEqual({ok, Options}, megaphone_keeper:options()),
        megaphone_test:until(fun() -> megaphone_port:call(<<"environment">>, <<"MEGAPHONE_CONFIG">>, 5000)
                                          =:= {ok, <<"/x">>} end)
    end).

%% As mod_megaphone does it.
reload(Options) ->
    persistent_term:put({mod_megaphone, options}, Options),
    ok = megaphone_keeper:reload(Options).

%% Sidecars come in only while the option says so.
modes_test_() ->
    with_sidecar(fun(Options, Connected) ->
        ?assertEqual(undefined, whereis(megaphone_sidecars_sup)),
        reload(Options),
        One = Connected(<<"one">>),
        reload(Options#{sidecar := undefined}),
        ?assertEqual(undefined, whereis(megaphone_sidecars_sup)),
        megaphone_test:until(fun() -> sidecar_standin:state(One) =:= closed end),
        megaphone_test:until(fun() -> megaphone_port:call(<<"echo">>, x, 5000) =:= {ok, x} end),
        reload(Options),
        Two = Connected(<<"two">>),
        [sidecar_standin:stop(Pid) || Pid <- [One, Two]]
    end).

%% Who stands by has been told what the connection is like: it connects anew where that changes.
what_sidecars_know_test_() ->
    with_sidecar(fun(Options, Connected) ->
        reload(Options),
        _ = Connected(<<"one">>),
        Before = pid(megaphone_sidecars_sup),
        reload(Options#{retry_interval := 50000}),
        ?assertEqual(Before, pid(megaphone_sidecars_sup)),
        [begin
             Sup = pid(megaphone_sidecars_sup),
             reload(Options#{Name := Value}),
             ?assertNotEqual({Name, Sup}, {Name, pid(megaphone_sidecars_sup)}),
             sidecar_standin:stop(Connected(<<"one">>))
         end || {Name, Value} <- [{port_window, 16777216}, {heartbeat_interval, 2000}, {heartbeat_timeout, 9000}]]
    end).

with_sidecar(Fun) ->
    {timeout, Seconds, Test} =
        with_keeper(?BROADCASTS, #{}, fun(_, _) ->
            _ = pid(megaphone_port),
            Directory = sidecar_test:directory(),
            Path = filename:join(Directory, <<"node.sock">>),
            Connected = fun(Name) ->
                                megaphone_test:until(fun() -> case megaphone_sidecars:status() of
                                                                  #{<<"listening">> := Where} -> Where =/= undefined;
                                                                  undefined -> false
                                                              end end),
                                {ok, Sidecar} = sidecar_standin:start({unix, Path}, #{identity => Name}),
                                megaphone_test:until(fun() -> sidecar_test:port_state() =:= <<"connected">> end),
                                Sidecar
                        end,
            try Fun(sidecar_test:options(Directory, #{}), Connected)
            after
                sidecar_test:remove(Directory),
                persistent_term:erase({mod_megaphone, options})
            end
        end),
    {timeout, Seconds, {spawn, Test}}.

no_keeper_test() ->
    ?assertEqual({error, noproc}, megaphone_keeper:options()).
