%%% How this node's `sys` takes the answers to get_state and replace_state: as {ok, State} since OTP
%%% 26.1, as the bare state before. ?OTP_RELEASE is 26 either way, so `sys` is asked: it answers for a
%%% process that hands it its system messages.
-module(megaphone_sys).

-export([wants_ok/0]).
%% sys
-export([system_continue/3, system_terminate/4]).

%% @doc Whether the state stands in an {ok, State}.
-spec wants_ok() -> boolean().
wants_ok() ->
    Self = self(),
    Tag = make_ref(),
    %% A process of its own, for there is no return from `sys`.
    {_, Monitor} = spawn_monitor(fun() ->
                                         sys:handle_system_msg(get_state, {Self, Tag}, Self, ?MODULE, [], state)
                                 end),
    WantsOk = receive
                  {Tag, {ok, state}} -> true;
                  {Tag, state} -> false;
                  {'DOWN', Monitor, process, _, Reason} -> error(Reason)
              end,
    _ = demonitor(Monitor, [flush]),
    WantsOk.

%% @private
-spec system_continue(pid(), [sys:dbg_opt()], state) -> no_return().
system_continue(_Parent, _Debug, state) ->
    exit(normal).

%% @private
-spec system_terminate(term(), pid(), [sys:dbg_opt()], state) -> no_return().
system_terminate(Reason, _Parent, _Debug, state) ->
    exit(Reason).
