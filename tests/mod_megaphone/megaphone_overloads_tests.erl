-module(megaphone_overloads_tests).

-include_lib("eunit/include/eunit.hrl").

overloads_test_() ->
    {setup,
     fun() -> megaphone_counts:start() end,
     fun(_) -> _ = mnesia:stop(), megaphone_counts:stop() end,
     {timeout, 60,
      fun() ->
              ok = mnesia:start(),
              {ok, Listener} = megaphone_overloads:start_link(),
              ok = overload(),
              megaphone_test:until(fun() -> counted() =:= 1 end),
              %% Other events are none of its business.
              mnesia_lib:report_system_event({mnesia_user, hello}),
              %% Mnesia is stopped and started, and it hears again.
              stopped = mnesia:stop(),
              ?assert(is_process_alive(Listener)),
              ok = mnesia:start(),
              megaphone_test:until(fun() -> ok = overload(), counted() > 1 end),
              ?assertEqual(Listener, whereis(megaphone_overloads)),
              gen_server:stop(Listener)
      end}}.

%% Mnesia need not be there at all.
without_mnesia_test() ->
    {ok, Listener} = megaphone_overloads:start_link(),
    ?assertEqual({error, badarg}, gen_server:call(Listener, hello)),
    gen_server:stop(Listener).

overload() ->
    mnesia_lib:report_system_event({mnesia_overload, {mnesia_tm, message_queue_len, [1, 2]}}),
    ok.

counted() ->
    megaphone_counts:count(mnesia_overloads).
