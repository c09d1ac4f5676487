%%% Who receives the answers of which broadcast. Held by the owner of the port, which monitors
%%% the receivers.
%%%
%%% A receiver gets one answer for each batch that was sent and none that was not, so a program
%%% cannot fill its mailbox.
-module(megaphone_subscribers).

-export([new/0, add/3, remove/2, down/2, sent/3, answer/4, tell/2, disconnected/1, is_receiver/3]).
-export_type([subscribers/0]).

-record(subscriber, {pid :: pid(),
                     monitor :: reference(),
                     asked = #{} :: #{N :: non_neg_integer() => true}}).

-opaque subscribers() :: #{Broadcast :: binary() => #subscriber{}}.

-spec new() -> subscribers().
new() ->
    #{}.

%% @doc A later subscriber takes the place of an earlier one.
-spec add(binary(), pid(), subscribers()) -> subscribers().
add(Broadcast, Pid, Subscribers) ->
    Rest = remove(Broadcast, Subscribers),
    Rest#{Broadcast => #subscriber{pid = Pid, monitor = erlang:monitor(process, Pid)}}.

-spec remove(binary(), subscribers()) -> subscribers().
remove(Broadcast, Subscribers) ->
    case maps:take(Broadcast, Subscribers) of
        {#subscriber{monitor = Monitor}, Rest} ->
            true = erlang:demonitor(Monitor, [flush]),
            Rest;
        error ->
            Subscribers
    end.

%% @doc The broadcast whose receiver died, if the monitor is one of these.
-spec down(reference(), subscribers()) -> {ok, binary(), subscribers()} | error.
down(Monitor, Subscribers) ->
    case [Broadcast || {Broadcast, #subscriber{monitor = Ref}} <- maps:to_list(Subscribers),
                       Ref =:= Monitor] of
        [Broadcast] -> {ok, Broadcast, maps:remove(Broadcast, Subscribers)};
        [] -> error
    end.

-spec is_receiver(binary(), pid(), subscribers()) -> boolean().
is_receiver(Broadcast, Pid, Subscribers) ->
    case Subscribers of
        #{Broadcast := #subscriber{pid = Pid}} -> true;
        _ -> false
    end.

-spec sent(binary(), non_neg_integer(), subscribers()) -> subscribers().
sent(Broadcast, N, Subscribers) ->
    #{Broadcast := Subscriber = #subscriber{asked = Asked}} = Subscribers,
    Subscribers#{Broadcast := Subscriber#subscriber{asked = Asked#{N => true}}}.

%% @doc Hands an answer to the receiver that waits for it.
-spec answer(binary(), non_neg_integer(), term(), subscribers()) -> {ok, subscribers()} | unwanted.
answer(Broadcast, N, Answer, Subscribers) ->
    case Subscribers of
        #{Broadcast := Subscriber = #subscriber{pid = Pid, asked = Asked = #{N := true}}} ->
            Pid ! {megaphone_batch, Broadcast, N, Answer},
            {ok, Subscribers#{Broadcast := Subscriber#subscriber{asked = maps:remove(N, Asked)}}};
        _ ->
            unwanted
    end.

%% @doc Tells each receiver once that the program is there or gone.
-spec tell(connected | disconnected, subscribers()) -> ok.
tell(What, Subscribers) ->
    Pids = lists:usort([Pid || #subscriber{pid = Pid} <- maps:values(Subscribers)]),
    lists:foreach(fun(Pid) -> Pid ! {megaphone_port, What} end, Pids).

%% @doc Nothing that was asked will be answered.
-spec disconnected(subscribers()) -> subscribers().
disconnected(Subscribers) ->
    maps:map(fun(_, Subscriber) -> Subscriber#subscriber{asked = #{}} end, Subscribers).
