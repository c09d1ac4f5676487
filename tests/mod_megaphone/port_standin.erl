%% In place of megaphone_port in tests of the fan-out: formats `{{ user }}` itself, or holds what
%% it is sent until the test answers.
-module(port_standin).

-behaviour(gen_server).

-export([install/0, remove/0, start/1, stop/0, mode/1, connect/0, disconnect/0, held/0, answer/2,
         sent/0, format/1, unsubscribed/0]).
-export([call/3, subscribe/1, unsubscribe/1, send_batch/3, status/0]).
-export([init/1, handle_call/3, handle_cast/2]).

-record(state, {connected, mode = auto, subscriber = none, held = [], sent = [], unsubscribed = []}).

install() ->
    megaphone_test:standin(
      "-module(megaphone_port).\n"
      "call(Name, Request, Time) -> port_standin:call(Name, Request, Time).\n"
      "subscribe(Id) -> port_standin:subscribe(Id).\n"
      "unsubscribe(Id) -> port_standin:unsubscribe(Id).\n"
      "send_batch(Id, N, Body) -> port_standin:send_batch(Id, N, Body).\n"
      "status() -> port_standin:status().\n").

remove() -> megaphone_test:remove_standin(megaphone_port).

start(Connected) ->
    {ok, Pid} = gen_server:start({local, megaphone_port}, ?MODULE, Connected, []),
    Pid.

stop() -> gen_server:stop(megaphone_port).

%% auto | hold | overload | {too_large, MoreThan} | {prepare, Answer}
mode(Mode) -> request({mode, Mode}).
connect() -> request({connected, connected}).
disconnect() -> request({connected, disconnected}).
%% Batches that wait for the test's answer, oldest first.
held() -> request(held).
answer(N, Answer) -> request({answer, N, Answer}).
%% Numbers of all batches that were ever sent, oldest first.
sent() -> request(sent).
unsubscribed() -> request(unsubscribed).

call(_Name, Request, _Time) -> request({call, Request}).
subscribe(Id) ->
    try request({subscribe, Id, self()})
    catch exit:_ -> error({megaphone_port, disconnected})
    end.
unsubscribe(Id) -> gen_server:cast(megaphone_port, {unsubscribe, Id}).
send_batch(Id, N, Body) ->
    try request({send_batch, Id, N, Body})
    catch exit:_ -> {error, disconnected}
    end.
status() -> #{<<"state">> => request(status)}.

request(Request) -> gen_server:call(megaphone_port, Request, 5000).

init(Connected) -> {ok, #state{connected = Connected}}.

handle_call({mode, Mode}, _, State) ->
    {reply, ok, State#state{mode = Mode}};
handle_call({connected, How}, _, State = #state{subscriber = Subscriber}) ->
    _ = [element(2, Subscriber) ! {megaphone_port, How} || Subscriber =/= none],
    {reply, ok, State#state{connected = How, held = []}};
handle_call(held, _, State = #state{held = Held}) ->
    {reply, lists:reverse(Held), State};
handle_call({answer, N, Answer}, _, State = #state{held = Held, subscriber = {Id, Pid}}) ->
    Pid ! {megaphone_batch, Id, N, Answer},
    {reply, ok, State#state{held = lists:keydelete(N, 1, Held)}};
handle_call(sent, _, State = #state{sent = Sent}) ->
    {reply, lists:reverse(Sent), State};
handle_call(unsubscribed, _, State = #state{unsubscribed = Ids}) ->
    {reply, Ids, State};
handle_call(status, _, State = #state{connected = Connected}) ->
    {reply, atom_to_binary(Connected, utf8), State};
handle_call(_, _, State = #state{mode = {reply, Answer}}) ->
    {reply, Answer, State};
handle_call({call, {prepare, _}}, _, State) ->
    {reply, {ok, {ok, #{<<"columns">> => [<<"user">>]}}}, State};
handle_call({subscribe, Id, Pid}, _, State) ->
    {reply, {ok, State#state.connected}, State#state{subscriber = {Id, Pid}}};
handle_call({send_batch, _, _, _}, _, State = #state{connected = disconnected}) ->
    {reply, {error, disconnected}, State};
handle_call({send_batch, _, _, _}, _, State = #state{mode = overload}) ->
    {reply, {error, overload}, State};
handle_call({send_batch, Id, N, Body}, _, State = #state{mode = Mode, held = Held, sent = Sent,
                                                         subscriber = {Id, Pid}}) ->
    Counted = State#state{sent = [N | Sent]},
    {_, Count, _} = binary_to_term(Body),
    case Mode of
        hold ->
            {reply, ok, Counted#state{held = [{N, Body} | Held]}};
        {too_large, Most} when Count > Most ->
            Pid ! {megaphone_batch, Id, N, {failed, too_large, <<>>}},
            {reply, ok, Counted};
        _ ->
            Pid ! {megaphone_batch, Id, N, {done, format(Body)}},
            {reply, ok, Counted}
    end.

handle_cast({unsubscribe, Id}, State = #state{unsubscribed = Ids}) ->
    {noreply, State#state{unsubscribed = [Id | Ids]}}.

%% The body of batch_done that a worker would give.
format(Body) ->
    {Templates, _Count, #{<<"user">> := Column}} = binary_to_term(Body),
    Users = binary:split(Column, <<0>>, [global]),
    Texts = [iolist_to_binary(lists:join(0, [binary:replace(Template, <<"{{ user }}">>, User)
                                             || User <- Users])) || Template <- Templates],
    term_to_binary({Texts, []}).
