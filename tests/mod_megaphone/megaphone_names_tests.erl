-module(megaphone_names_tests).

-include_lib("eunit/include/eunit.hrl").

with(Fun) -> with(free, Fun).

with(Allowed, Fun) ->
    {setup,
     fun() ->
             ok = megaphone_names:start(),
             persistent_term:put({mod_megaphone, options}, #{allowed_names => Allowed})
     end,
     fun(_) ->
             persistent_term:erase({mod_megaphone, options}),
             megaphone_names:stop()
     end,
     %% A process of its own, whose names end with it.
     ?_test(begin
                {_, Ref} = spawn_monitor(fun() -> exit({ok, Fun()}) end),
                receive {'DOWN', Ref, process, _, Reason} -> ?assertMatch({ok, _}, Reason) end
            end)}.

register_test_() ->
    with(fun() ->
        ok = megaphone_names:register([{local, <<"names_a">>}, {global, <<"names_a">>}]),
        Self = self(),
        {Self, Self} = {whereis(names_a), global:whereis_name(names_a)}
    end).

%% All or none.
in_use_test_() ->
    with(fun() ->
        _ = spawn_link(fun() -> register(names_in_use, self()), receive stop -> ok end end),
        megaphone_test:until(fun() -> is_pid(whereis(names_in_use)) end),
        {error, {badarg, _}} = megaphone_names:register([{global, <<"names_c">>}, {local, <<"names_in_use">>}]),
        undefined = global:whereis_name(names_c)
    end).

taken_test_() ->
    [with(fun() ->
         {error, {badarg, Text}} = megaphone_names:register([{global, <<"names_c">>}, {local, Name}]),
         true = is_binary(Text),
         undefined = global:whereis_name(names_c)
     end) || Name <- [<<"undefined">>, <<>>, binary:copy(<<"x">>, 256),
                      <<255, 254>>, <<"megaphone_port">>, <<"megaphone_x">>]].

%% The node's own are refused, in use or not, whatever the scope.
the_nodes_own_test_() ->
    [with(fun() ->
         {error, {refused, Text}} = megaphone_names:register([{local, <<"names_f">>}, {Scope, Name}]),
         {match, _} = re:run(Text, Name),
         undefined = whereis(names_f)
     end) || Name <- [<<"ejabberd_sm">>, <<"mod_ping_localhost">>, <<"gen_server">>], Scope <- [local, global]].

%% A list is the whole of it, and may hold what would be refused else; but for the package's own.
listed_test_() ->
    Listed = [<<"names_listed">>, <<"ejabberd_names_listed">>, <<"megaphone_listed">>, <<"kernel_sup">>],
    with(Listed, fun() ->
        ok = megaphone_names:register([{local, <<"names_listed">>}]),
        true = unregister(names_listed),
        ok = megaphone_names:register([{local, <<"ejabberd_names_listed">>}]),
        {error, {refused, _}} = megaphone_names:register([{global, <<"names_other">>}]),
        [{error, {badarg, _}} = megaphone_names:register([{local, Name}]) || Name <- [<<"megaphone_listed">>, <<"kernel_sup">>]]
    end).

a_global_name_that_is_taken_test_() ->
    with(fun() ->
        yes = global:register_name(names_taken, self()),
        {error, {badarg, _}} = megaphone_names:register([{local, <<"names_e">>}, {global, <<"names_taken">>}]),
        undefined = whereis(names_e)
    end).

%% Names that are atoms already cost nothing.
bounded_test_() ->
    with(fun() ->
        Register = fun(N) ->
                           Name = <<"names_bounded_", (integer_to_binary(N))/binary>>,
                           Result = megaphone_names:register([{local, Name}]),
                           _ = [unregister(binary_to_existing_atom(Name, utf8)) || Result =:= ok],
                           Result
                   end,
        Results = [Register(N) || N <- lists:seq(1, 10001)],
        {10000, {error, {overload, _}}} = {length([ok || ok <- Results]), lists:last(Results)},
        [ok, ok] = [Register(1), Register(10000)]
    end).

are_names_test() ->
    [?assert(megaphone_names:are_names(Names))
     || Names <- [[], [{local, <<"a">>}], [{global, <<"a">>}, {local, <<"b">>}]]],
    [?assertNot(megaphone_names:are_names(Names))
     || Names <- [x, [a], [{local, a}], [{via, <<"a">>}], [{local, <<"a">>} | tail],
                 [{local, <<"a">>}, {local, <<"b">>}], [{global, <<"a">>}, {global, <<"b">>}]]].
