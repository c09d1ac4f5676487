-module(megaphone_sidecars_sup_tests).

-include_lib("eunit/include/eunit.hrl").

pids() ->
    [whereis(Name) || Name <- [megaphone_sidecars, megaphone_sidecar_sup, megaphone_listener]].

until_others(Before) ->
    megaphone_test:until(fun() -> Now = pids(), lists:all(fun is_pid/1, Now) andalso Now -- Before =:= Now end).

no_option_test() ->
    sidecar_test:with_options(megaphone_test:options("answers", #{}),
                              fun() -> ?assertEqual(ignore, megaphone_sidecars_sup:start_link()) end).

%% The tree has ended for a bug, and the keeper has not heard of it yet.
restart_of_nothing_test() ->
    undefined = whereis(megaphone_sup),
    ?assertEqual(ok, megaphone_sidecars_sup:restart()).

%% Who is connected is known to one of them only: they end together.
all_or_none_test_() ->
    sidecar_test:with_node(#{}, fun(Where, _) ->
        {ok, Silent} = sidecar_standin:connect(Where),
        megaphone_test:until(fun() -> proplists:get_value(active, supervisor:count_children(megaphone_sidecar_sup)) =:= 1 end),
        Before = pids(),
        exit(whereis(megaphone_sidecars), kill),
        true = until_others(Before),
        {_, How} = sidecar_standin:left(Silent, 5000),
        ?assertNotEqual(open, How),
        sidecar_standin:close(Silent)
    end).
