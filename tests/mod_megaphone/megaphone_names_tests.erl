-module(megaphone_names_tests).

-include_lib("eunit/include/eunit.hrl").

with(Fun) ->
    {setup, fun megaphone_names:start/0, fun(_) -> megaphone_names:stop() end,
     %% A process of its own, whose names end with it.
     ?_test(begin
                {_, Ref} = spawn_monitor(fun() -> exit(catch {ok, Fun()}) end),
                receive {'DOWN', Ref, process, _, Reason} -> ?assertMatch({ok, _}, Reason) end
            end)}.

register_test_() ->
    with(fun() ->
        ok = megaphone_names:register([{local, <<"names_a">>}, {global, <<"names_a">>}]),
        Self = self(),
        {Self, Self} = {whereis(names_a), global:whereis_name(names_a)}
    end).

%% All or none.
taken_test_() ->
    [with(fun() ->
         {error, {badarg, Text}} = megaphone_names:register([{global, <<"names_c">>}, {local, Name}]),
         true = is_binary(Text),
         undefined = global:whereis_name(names_c)
     end) || Name <- [<<"kernel_sup">>, <<"init">>, <<"undefined">>, <<>>, binary:copy(<<"x">>, 256),
                      <<255, 254>>, <<"megaphone_port">>, <<"megaphone_x">>]].

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
