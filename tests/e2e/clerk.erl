%%% A gen_server at another node of the cluster, for test_cluster.py.
-module(clerk).

-behaviour(gen_server).

-export([start/1, init/1, handle_call/3, handle_cast/2]).

%% @doc Joins a node, and has this one live as long as its standard input.
start([Node]) ->
    {ok, _} = gen_server:start({local, clerk}, ?MODULE, [], []),
    true = net_kernel:connect_node(Node),
    _ = spawn(fun() -> eof = io:get_line(""), halt() end).

init([]) -> {ok, []}.

handle_call(seen, _, Seen) -> {reply, lists:reverse(Seen), Seen};
handle_call(mute, _, Seen) -> {noreply, Seen};
handle_call(stop, _, Seen) -> {stop, closed, Seen};
handle_call(Request, _, Seen) -> {reply, {node(), Request}, Seen}.

handle_cast(Message, Seen) -> {noreply, [Message | Seen]}.
