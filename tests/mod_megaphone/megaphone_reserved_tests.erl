-module(megaphone_reserved_tests).

-include_lib("eunit/include/eunit.hrl").

reserved_test_() ->
    {setup,
     fun() ->
             %% As another package's process has one.
             Pid = spawn(fun() -> receive stop -> ok end end),
             true = register(reserved_before, Pid),
             ok = megaphone_reserved:start(),
             exit(Pid, kill),
             megaphone_test:until(fun() -> whereis(reserved_before) =:= undefined end)
     end,
     fun(_) -> megaphone_reserved:stop() end,
     [?_assert(megaphone_reserved:is_reserved(Name))
      || Name <- [<<"ejabberd">>, <<"ejabberd_sm">>, <<"ejabberd_whatever_comes">>, <<"mod_muc_conference.localhost">>,
                  <<"extauth_localhost_1">>, <<"vcard_cache">>,
                  %% Modules: loaded, preloaded, on the path only; a process of Kernel's, and what its application says.
                  <<"lists">>, <<"erlang">>, <<"mod_ping">>, <<"xref">>, <<"megaphone">>, <<"kernel_safe_sup">>,
                  <<"pool_master">>, <<"reserved_before">>]]
     ++ [?_assertNot(megaphone_reserved:is_reserved(Name))
         || Name <- [<<"shouter">>, <<"an_ejabberd">>, <<"reserved_after">>, <<"_cache">>, <<"cache">>, <<>>, <<255>>,
                     <<"Shouter of ours">>]]
     ++ [{"a module that comes later", fun a_module_that_comes_later/0}]}.

a_module_that_comes_later() ->
    ?assertNot(megaphone_reserved:is_reserved(<<"reserved_standin">>)),
    Module = megaphone_test:standin("-module(reserved_standin). f() -> ok."),
    ?assert(megaphone_reserved:is_reserved(<<"reserved_standin">>)),
    megaphone_test:remove_standin(Module).
