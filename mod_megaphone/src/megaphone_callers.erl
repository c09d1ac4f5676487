%%% The unanswered calls of one proxy: who waits for which. No process of its own.
%%%
%%% Tags are opaque and go back as they came: an improper list since OTP 24.
-module(megaphone_callers).

-export([new/0, add/3, reply/3, refuse/2, refuse/3, forget_gone/2, count/1, is_caller/2]).
-export([present/1, is_present/2]).
-export_type([callers/0, from/0, present/0]).

%% With fewer calls to look up than this, a list of the present callers is quicker than a map.
-define(FEW, 4).

-opaque callers() :: #{Ref :: pos_integer() => from()}.
-type from() :: {pid(), Tag :: term()}.
-opaque present() :: [pid()] | #{pid() => true} | all.

-spec new() -> callers().
new() ->
    #{}.

-spec add(pos_integer(), from(), callers()) -> callers().
add(Ref, From, Callers) ->
    Callers#{Ref => From}.

%% @doc Answers a call. A reply that cannot be decoded fails this call only.
-spec reply(pos_integer(), binary(), callers()) -> callers().
reply(Ref, Binary, Callers) ->
    case maps:take(Ref, Callers) of
        {From, Rest} ->
            case megaphone_protocol:decode_term(Binary) of
                {ok, Reply} -> gen_server:reply(From, Reply);
                {error, Reason} -> exit_call(From, {bad_reply, Reason})
            end,
            Rest;
        error ->
            Callers
    end.

%% @doc Makes a call exit with a reason.
-spec refuse(pos_integer(), term(), callers()) -> callers().
refuse(Ref, Reason, Callers) ->
    case maps:take(Ref, Callers) of
        {From, Rest} ->
            exit_call(From, Reason),
            Rest;
        error ->
            Callers
    end.

-spec refuse(from(), term()) -> ok.
refuse(From, Reason) ->
    exit_call(From, Reason).

%% gen:call/4 takes it for the end of the process, and its exit has the reason. Its monitor it
%% takes for gone, and leaves it; that is why a refusal is not for every day.
exit_call({_Pid, [alias | Ref]}, Reason) when is_reference(Ref) ->
    Ref ! {'DOWN', Ref, process, self(), Reason},
    ok;
%% Who waits for ever has no alias.
exit_call({Pid, Ref}, Reason) when is_reference(Ref) ->
    Pid ! {'DOWN', Ref, process, self(), Reason},
    ok;
exit_call(_From, _Reason) ->
    ok.

%% @doc Forgets the calls whose callers have given up.
-spec forget_gone(present(), callers()) -> callers().
forget_gone(Present, Callers) ->
    maps:filter(fun(_, From) -> is_present(From, Present) end, Callers).

-spec count(callers()) -> non_neg_integer().
count(Callers) ->
    map_size(Callers).

-spec is_caller(pid(), callers()) -> boolean().
is_caller(Pid, Callers) ->
    is_caller_of(Pid, maps:next(maps:iterator(Callers))).

is_caller_of(Pid, {_, {Pid, _}, _}) -> true;
is_caller_of(Pid, {_, _, More}) -> is_caller_of(Pid, maps:next(More));
is_caller_of(_, none) -> false.

%% @doc Who monitors this process now, for so many look-ups: a caller that has given up does not
%% any more. All whose messages have been received are in it, for their monitors came before.
-spec present(non_neg_integer()) -> present().
present(0) ->
    all;
present(Calls) ->
    {monitored_by, Pids} = process_info(self(), monitored_by),
    case Calls < ?FEW of
        true -> Pids;
        false -> maps:from_keys(Pids, true)
    end.

%% @doc A caller without an alias gives up only with its life; of one at another node that cannot
%% be seen.
-spec is_present(from(), present()) -> boolean().
is_present(_From, all) -> true;
is_present({Pid, [alias | _]}, Present) when is_map(Present) -> is_map_key(Pid, Present);
is_present({Pid, [alias | _]}, Present) -> lists:member(Pid, Present);
is_present({Pid, _}, _Present) when node(Pid) =:= node() -> is_process_alive(Pid);
is_present(_From, _Present) -> true.
