%%% The unanswered calls of one proxy: who waits for which. No process of its own.
%%%
%%% Tags are opaque and go back as they came: an improper list since OTP 24.
-module(megaphone_callers).

-export([new/0, add/3, reply/3, refuse/3, refuse_from/3, forget_gone/2, count/1, is_caller/2]).
-export([present/1, is_present/2]).
-export_type([callers/0, from/0, present/0]).

%% With fewer calls to look up than this, a list of the present callers is quicker than a map.
-define(FEW, 4).
%% Refused callers that still monitor this process. Beyond it they are left to their own time.
-define(MAX_REFUSED, 10000).

-record(callers, {waiting = #{} :: #{Ref :: pos_integer() => from()},
                  %% Not less than the refused callers that still monitor.
                  refused = 0 :: non_neg_integer()}).

-opaque callers() :: #callers{}.
-type from() :: {pid(), Tag :: term()}.
-opaque present() :: [pid()] | #{pid() => true} | all.

-spec new() -> callers().
new() ->
    #callers{}.

-spec add(pos_integer(), from(), callers()) -> callers().
add(Ref, From, Callers = #callers{waiting = Waiting}) ->
    Callers#callers{waiting = Waiting#{Ref => From}}.

%% @doc Answers a call. A reply that cannot be decoded fails this call only.
-spec reply(pos_integer(), binary(), callers()) -> callers().
reply(Ref, Binary, Callers) ->
    case take(Ref, Callers) of
        {From, Rest} ->
            case megaphone_protocol:decode_term(Binary) of
                {ok, Reply} ->
                    gen_server:reply(From, Reply),
                    Rest;
                {error, Reason} ->
                    refuse_from(From, {bad_reply, Reason}, Rest)
            end;
        error ->
            Callers
    end.

%% @doc Makes a call exit with a reason.
-spec refuse(pos_integer(), term(), callers()) -> callers().
refuse(Ref, Reason, Callers) ->
    case take(Ref, Callers) of
        {From, Rest} -> refuse_from(From, Reason, Rest);
        error -> Callers
    end.

%% @doc The same for a call that was not added.
-spec refuse_from(from(), term(), callers()) -> callers().
refuse_from(From, Reason, Callers) ->
    case count_refusal(Callers) of
        {ok, Counted} ->
            exit_call(From, Reason),
            Counted;
        {full, Counted} ->
            Counted
    end.

%% gen:call/4 takes it for the end of the process, and exits with the reason. It also takes its
%% monitor for gone, which stays until caller or proxy ends: that is why refusals are counted.
exit_call({_Pid, [alias | Ref]}, Reason) when is_reference(Ref) ->
    Ref ! {'DOWN', Ref, process, self(), Reason};
%% Who waits for ever has no alias.
exit_call({Pid, Ref}, Reason) when is_reference(Ref) ->
    Pid ! {'DOWN', Ref, process, self(), Reason};
exit_call(_From, _Reason) ->
    none.

count_refusal(Callers = #callers{refused = Refused}) when Refused < ?MAX_REFUSED ->
    {ok, Callers#callers{refused = Refused + 1}};
count_refusal(Callers = #callers{waiting = Waiting}) ->
    {monitored_by, Pids} = process_info(self(), monitored_by),
    case max(0, length(Pids) - map_size(Waiting)) of
        Refused when Refused < ?MAX_REFUSED -> {ok, Callers#callers{refused = Refused + 1}};
        _ -> {full, Callers}
    end.

take(Ref, Callers = #callers{waiting = Waiting}) ->
    case maps:take(Ref, Waiting) of
        {From, Rest} -> {From, Callers#callers{waiting = Rest}};
        error -> error
    end.

%% @doc Forgets the calls whose callers have given up.
-spec forget_gone(present(), callers()) -> callers().
forget_gone(Present, Callers = #callers{waiting = Waiting}) ->
    Callers#callers{waiting = maps:filter(fun(_, From) -> is_present(From, Present) end, Waiting)}.

-spec count(callers()) -> non_neg_integer().
count(#callers{waiting = Waiting}) ->
    map_size(Waiting).

-spec is_caller(pid(), callers()) -> boolean().
is_caller(Pid, #callers{waiting = Waiting}) ->
    is_caller_of(Pid, maps:next(maps:iterator(Waiting))).

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
