-module(megaphone_fanout_sup_tests).

-include_lib("eunit/include/eunit.hrl").

a_broadcast_is_never_begun_again_test() ->
    {ok, {#{strategy := simple_one_for_one}, [#{restart := temporary}]}} = megaphone_fanout_sup:init([]).

not_running_test() ->
    undefined = whereis(megaphone_fanout_sup),
    ?assertEqual({error, not_running}, megaphone_fanout_sup:start_fanout(#{})).
