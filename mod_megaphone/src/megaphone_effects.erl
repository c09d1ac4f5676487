%%% What a Python process does at the node, by its proxy and in its name: sends, links, monitors.
%%% Runs in the proxy; no process of its own.
-module(megaphone_effects).

-export([new/1, do/5, down/2, exited/2]).
-export_type([effects/0, result/0]).

-define(MAX_MONITORS, 10000).

-record(effects, {%% The supervisor, whose link is not Python's to end.
                  parent :: pid(),
                  %% Whom Python has linked to; who links to the proxy is not Python's to end.
                  links = #{} :: #{pid() => []},
                  monitors = #{} :: #{Number :: non_neg_integer() => reference()},
                  numbers = #{} :: #{reference() => {Number :: non_neg_integer(),
                                                     megaphone_access:target()}}}).

-opaque effects() :: #effects{}.
%% `refused`: why, in words. `down`: the target of a monitor that fires at once.
-type result() :: {ok | {refused, iolist()}
                   | {down, megaphone_access:target(), noproc | noconnection}, effects()}.

-spec new(pid()) -> effects().
new(Parent) ->
    #effects{parent = Parent}.

%% @doc Carries out a signal of the program's. Callers says whether a pid waits for an answer.
-spec do(megaphone_protocol:signal_kind(), non_neg_integer(), term(), fun((pid()) -> boolean()),
         effects()) -> result().
do(demonitor, Number, _, _Callers, Effects) ->
    {ok, end_monitor(Number, Effects)};
do(monitor, Number, Target, Callers, Effects) ->
    monitor_target(Number, Target, Callers, end_monitor(Number, Effects));
do(Kind, _, Term, Callers, Effects = #effects{parent = Parent}) ->
    {Target, What} = parts(Kind, Term),
    case may(Kind, Target, Callers) andalso Target =/= Parent of
        true ->
            {ok, act(Kind, megaphone_access:resolve(Target), What, Effects)};
        false ->
            {refused(Target), Effects}
    end.

%% @doc The monitor that fired, if it is one of these.
-spec down(reference(), effects()) ->
          {Number :: non_neg_integer(), megaphone_access:target(), effects()} | error.
down(Monitor, Effects = #effects{monitors = Monitors, numbers = Numbers}) ->
    case maps:take(Monitor, Numbers) of
        {{Number, Target}, Rest} ->
            {Number, Target, Effects#effects{monitors = maps:remove(Number, Monitors),
                                             numbers = Rest}};
        error ->
            error
    end.

refused(Target) ->
    {refused, [megaphone_access:closed_by(Target), " does not allow ", megaphone_access:outline(Target)]}.

%% @doc Whose exit signal it is that came from the process: of a link that Python made, and which is
%% gone with it, or of exit/2, which leaves a link as it is, or of a link that was made there.
-spec exited(pid(), effects()) -> {link | signal, effects()}.
exited(From, Effects = #effects{links = Links}) ->
    case is_map_key(From, Links) andalso not is_linked(From) of
        true -> {link, Effects#effects{links = maps:remove(From, Links)}};
        false -> {signal, Effects}
    end.

%% A link is gone by the time that its exit signal is in the mailbox.
is_linked(Pid) ->
    {links, Linked} = process_info(self(), links),
    lists:member(Pid, Linked).

%% {} is no target: it is refused like one that is not allowed.
parts(Kind, Pid) when Kind =:= link; Kind =:= unlink -> {only_pid(Pid), none};
parts(exit_signal, {Pid, Reason}) -> {only_pid(Pid), Reason};
parts(_, {Target, Message}) -> {Target, Message};
parts(_, _) -> {{}, none}.

only_pid(Pid) when is_pid(Pid) -> Pid;
only_pid(_) -> {}.

may(Kind, Target, Callers) ->
    megaphone_access:may_reach(Target)
        orelse (Kind =:= send orelse Kind =:= link orelse Kind =:= unlink orelse Kind =:= monitor)
                   andalso is_pid(Target) andalso Callers(Target).

act(_, undefined, _, Effects) ->
    Effects;
act(_, disconnected, _, Effects) ->
    Effects;
act(send, Pid, Message, Effects) ->
    send(Pid, Message, Effects);
act(cast, Pid, Message, Effects) ->
    send(Pid, {'$gen_cast', Message}, Effects);
act(exit_signal, Pid, Reason, Effects) ->
    true = exit(Pid, Reason),
    Effects;
act(link, Pid, none, Effects) when Pid =:= self() ->
    Effects;
act(link, Pid, none, Effects = #effects{links = Links}) ->
    true = link(Pid),
    Effects#effects{links = Links#{Pid => []}};
act(unlink, Pid, none, Effects = #effects{links = Links}) ->
    case exited(Pid, Effects) of
        {link, Rest} ->
            %% Its exit signal waits in the mailbox, and must have no effect any more.
            receive {'EXIT', Pid, _} -> Rest after 0 -> Rest end;
        {signal, _} ->
            true = unlink(Pid),
            Effects#effects{links = maps:remove(Pid, Links)}
    end.

%% A connection to another node that is busy or down is not waited for.
send(Pid, Message, Effects) ->
    _ = erlang:send(Pid, Message, [noconnect, nosuspend]),
    Effects.

monitor_target(Number, Target, Callers, Effects = #effects{monitors = Monitors, numbers = Numbers}) ->
    case map_size(Monitors) < ?MAX_MONITORS andalso may(monitor, Target, Callers) of
        false ->
            {refused(Target), Effects};
        true ->
            case megaphone_access:resolve(Target) of
                undefined ->
                    {{down, Target, noproc}, Effects};
                disconnected ->
                    {{down, Target, noconnection}, Effects};
                Process ->
                    Monitor = erlang:monitor(process, Process),
                    {ok, Effects#effects{monitors = Monitors#{Number => Monitor},
                                         numbers = Numbers#{Monitor => {Number, Target}}}}
            end
    end.

end_monitor(Number, Effects = #effects{monitors = Monitors, numbers = Numbers}) ->
    case maps:take(Number, Monitors) of
        {Monitor, Rest} ->
            true = erlang:demonitor(Monitor, [flush]),
            Effects#effects{monitors = Rest, numbers = maps:remove(Monitor, Numbers)};
        error ->
            Effects
    end.
