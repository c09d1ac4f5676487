-module(megaphone_requests_tests).

-include_lib("eunit/include/eunit.hrl").

%% A gen_server that answers what it is asked.
-export([init/1, handle_call/3, handle_cast/2]).
%% And an old state machine, as ejabberd has them: OTP's gen_fsm by another name.
-export([idle/3, handle_sync_event/4, terminate/3]).

init(none) -> {ok, none};
init(machine) -> {ok, idle, none}.

idle(mute, _, Data) -> {next_state, idle, Data};
idle(stop, _, Data) -> {stop, oops, Data};
idle(Event, _, Data) -> {reply, {idle, Event}, idle, Data}.
handle_sync_event(Event, _, State, Data) -> {reply, {State, Event}, State, Data}.
terminate(_, _, _) -> ok.

handle_call({echo, Term}, _, State) -> {reply, Term, State};
handle_call(mute, _, State) -> {noreply, State};
handle_call(stop, _, State) -> {stop, {oops, 1}, State}.
handle_cast(_, State) -> {noreply, State}.

with(Options, Fun) ->
    proxy_test:connected(Options, #{heartbeat_timeout => 60000},
                         fun(_) ->
                                 {ok, Pid} = gen_server:start({local, requests_server}, ?MODULE, none, []),
                                 yes = global:register_name(requests_server, Pid),
                                 try Fun(Pid)
                                 after
                                     exit(Pid, kill),
                                     proxy_test:ended(Pid)
                                 end
                         end).

call(Target, Request) -> call(Target, Request, 2000).

call(Target, Request, Timeout) -> call(call, Target, Request, Timeout).

call(Kind, Target, Request, Timeout) ->
    proxy_test:ask(<<"erlang">>, {Kind, term_to_binary(Target), term_to_binary(Request), Timeout}).

rpc(Module, Function, Args) -> rpc(Module, Function, Args, 2000).

rpc(Module, Function, Args, Timeout) ->
    proxy_test:ask(<<"erlang">>, {rpc, Module, Function, term_to_binary(Args), Timeout}).

call_test_() ->
    with(#{allowed_processes => [requests_server, requests_nobody]}, fun(Pid) ->
        [?assertEqual({ok, hello}, call(Target, {echo, hello}))
         || Target <- [requests_server, {global, requests_server}, Pid]],
        ?assertMatch({error, {timeout, _}}, call(requests_server, mute, 30)),
        ?assertMatch({error, {noproc, _}}, call(requests_nobody, mute)),
        ?assertEqual({error, {crash, <<"the process ended: exit:{oops,1}">>}}, call(requests_server, stop)),
        ?assertMatch({error, {noproc, _}}, call(requests_server, mute))
    end).

machine_test_() ->
    with(#{allowed_processes => [requests_machine]}, fun(_) ->
        {ok, Machine} = p1_fsm:start({local, requests_machine}, ?MODULE, machine, []),
        Ask = fun(Kind, Event) -> call(Kind, requests_machine, Event, 500) end,
        ?assertEqual({ok, {idle, 1}}, Ask(sync_event, 1)),
        ?assertEqual({ok, {idle, all}}, Ask(sync_all_event, all)),
        ?assertMatch({error, {timeout, _}}, Ask(sync_event, mute)),
        ?assertEqual({error, {crash, <<"the process ended: exit:oops">>}}, Ask(sync_event, stop)),
        ?assertEqual(noproc, proxy_test:ended(Machine)),
        ?assertMatch({error, {noproc, _}}, Ask(sync_all_event, all)),
        [?assertMatch({error, {refused, _}}, call(Kind, kernel_sup, hi, 500))
         || Kind <- [sync_event, sync_all_event]]
    end).

%% A name at another node: tests/e2e/test_cluster.py has one that is connected.
nodes_test_() ->
    with(#{allowed_processes => [requests_server], allowed_nodes => ['a@nowhere']}, fun(_) ->
        ?assertEqual({ok, 1}, call({requests_server, node()}, {echo, 1})),
        ?assertEqual({error, {nodedown, <<"a@nowhere">>}}, call({requests_server, 'a@nowhere'}, {echo, 1})),
        ?assertEqual({error, {refused, <<"allowed_nodes does not allow it">>}},
                     call({requests_server, 'b@nowhere'}, {echo, 1})),
        ?assertEqual({ok, []}, proxy_test:ask(<<"erlang">>, nodes))
    end).

%% Python reaches its own processes from anywhere.
proxy_test_() ->
    with(#{}, fun(_) ->
        {ok, Proxy} = proxy_test:start(1, [{local, <<"requests_python">>}]),
        [?assertMatch({ok, {call, _, hi, infinity}}, call(Target, hi)) || Target <- [Proxy, requests_python]]
    end).

what_is_not_allowed_test_() ->
    with(#{allowed_processes => [another]}, fun(Pid) ->
        [?assertMatch({error, {refused, _}}, call(Target, {echo, <<"a secret">>}))
         || Target <- [requests_server, {global, requests_server}, Pid, self(), <<"requests_server">>,
                       {requests_server, node()}, {via, global, requests_server}]],
        megaphone_test:until(fun() -> length(megaphone_test:logged("was refused")) =:= 7 end),
        ?assertMatch([{warning, "megaphone[processes] a call of requests_server was refused: "
                                "allowed_processes does not allow it"} | _], megaphone_test:logged("was refused")),
        ?assertEqual([], megaphone_test:logged("a secret"))
    end).

all_is_everything_test_() ->
    with(#{allowed_processes => all}, fun(Pid) ->
        [?assertEqual({ok, 1}, call(Target, {echo, 1})) || Target <- [Pid, requests_server]],
        [?assertMatch({error, {refused, _}}, call(Target, 1)) || Target <- [<<"a">>, {a, b}, 1]]
    end).

rpc_test_() ->
    with(#{allowed_functions => [<<"lists:reverse/1">>, <<"erlang:error/1">>, <<"erlang:throw/1">>,
                                 <<"timer:sleep/1">>, <<"lists:nothing/0">>]}, fun(_) ->
        ?assertEqual({ok, [2, 1]}, rpc(<<"lists">>, <<"reverse">>, [[1, 2]])),
        ?assertEqual({error, {crash, <<"the function failed: error:oops">>}},
                     rpc(<<"erlang">>, <<"error">>, [oops])),
        ?assertEqual({error, {crash, <<"the function failed: throw:ball">>}},
                     rpc(<<"erlang">>, <<"throw">>, [ball])),
        ?assertMatch({error, {crash, <<"the function failed: error:undef">>}}, rpc(<<"lists">>, <<"nothing">>, [])),
        Started = erlang:monotonic_time(millisecond),
        ?assertMatch({error, {timeout, _}}, rpc(<<"timer">>, <<"sleep">>, [60000], 50)),
        ?assert(erlang:monotonic_time(millisecond) - Started < 2000)
    end).

functions_that_are_not_allowed_test_() ->
    with(#{allowed_functions => [<<"lists:reverse/1">>]}, fun(_) ->
        Atoms = erlang:system_info(atom_count),
        [?assertMatch({error, {refused, _}}, rpc(Module, Function, Args))
         || {Module, Function, Args} <-
                [{<<"lists">>, <<"reverse">>, [[], <<"a secret">>]}, {<<"lists">>, <<"sort">>, [[]]},
                 {<<"os">>, <<"cmd">>, ["true"]}, {<<"lists:reverse/1">>, <<>>, []}, {lists, reverse, [[]]},
                 {<<"no_such_module_of_this_node\n">>, <<"f">>, []}, {<<"lists">>, <<"reverse">>, [[] | x]},
                 {<<"lists">>, <<"reverse">>, x}]],
        megaphone_test:until(fun() -> length(megaphone_test:logged("was refused")) =:= 8 end),
        ?assertMatch([{warning, "megaphone[processes] a call of lists:reverse/2 was refused: "
                                "allowed_functions does not allow it"} | _], megaphone_test:logged("was refused")),
        ?assertEqual([], megaphone_test:logged("a secret")),
        ?assert(erlang:system_info(atom_count) - Atoms < 20)
    end).

what_is_no_request_test_() ->
    with(#{allowed_processes => all}, fun(_) ->
        [?assertMatch({error, {badarg, _}}, proxy_test:ask(<<"erlang">>, Request))
         || Term <- [<<131, 106>>],
            Request <- [call, {call, Term, Term}, {call, Term, Term, 0}, {call, Term, Term, infinity},
                        {call, a, Term, 1}, {call, Term, b, 1}, {cast, Term, Term, 1}, {sync_event, Term, Term},
                        {rpc, <<"a">>, <<"b">>, Term}, {rpc, <<"a">>, <<"b">>, [], 1}]]
    end).

%% An atom that this node does not know, as Python writes it, fails its own call, and at once.
unknown_atoms_test_() ->
    with(#{allowed_processes => all, allowed_functions => [<<"lists:reverse/1">>]}, fun(_) ->
        Unknown = <<131, 119, 26, "requests_what_is_no_atom_1">>,
        Known = term_to_binary(requests_server),
        Ask = fun(Request) -> proxy_test:ask(<<"erlang">>, Request) end,
        ?assertMatch({error, {noproc, _}}, Ask({call, Unknown, Known, 2000})),
        ?assertMatch({error, {badarg, <<"the request is no term", _/binary>>}}, Ask({call, Known, Unknown, 2000})),
        ?assertMatch({error, {badarg, <<"the arguments are no term", _/binary>>}},
                     Ask({rpc, <<"lists">>, <<"reverse">>, Unknown, 2000}))
    end).
