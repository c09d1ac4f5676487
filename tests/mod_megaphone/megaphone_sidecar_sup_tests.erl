-module(megaphone_sidecar_sup_tests).

-include_lib("eunit/include/eunit.hrl").

%% A connection that ends, for whatever reason, is not started again, and ends no other.
temporary_test_() ->
    sidecar_test:with_node(#{}, fun(Where, _) ->
        Connections = [begin {ok, Connection} = sidecar_standin:connect(Where), Connection end || _ <- lists:seq(1, 20)],
        Count = fun() -> proplists:get_value(active, supervisor:count_children(megaphone_sidecar_sup)) end,
        megaphone_test:until(fun() -> Count() =:= 20 end),
        Sup = whereis(megaphone_sidecar_sup),
        Pids = [Pid || {_, Pid, _, _} <- supervisor:which_children(Sup)],
        [exit(Pid, kill) || Pid <- lists:sublist(Pids, 19)],
        megaphone_test:until(fun() -> Count() =:= 1 end),
        ?assertEqual(Sup, whereis(megaphone_sidecar_sup)),
        ?assertEqual([{undefined, lists:last(Pids), worker, [megaphone_sidecar]}], supervisor:which_children(Sup)),
        [ok = sidecar_standin:close(Connection) || Connection <- Connections]
    end).
