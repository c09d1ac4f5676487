%%% What Python asks of Erlang without a process of its own: the name `erlang` of docs/protocol.md.
%%% Runs in the process of the call, whose time the owner of the port bounds.
-module(megaphone_requests).

-export([answer/1, time/2]).

-spec answer(term()) -> megaphone_calls:outcome().
answer({call, Target, Request, TimeoutMs}) when is_integer(TimeoutMs), TimeoutMs > 0 ->
    call('$gen_call', Target, Request, TimeoutMs);
answer({sync_event, Target, Event, TimeoutMs}) when is_integer(TimeoutMs), TimeoutMs > 0 ->
    call('$gen_sync_event', Target, Event, TimeoutMs);
answer({sync_all_event, Target, Event, TimeoutMs}) when is_integer(TimeoutMs), TimeoutMs > 0 ->
    call('$gen_sync_all_state_event', Target, Event, TimeoutMs);
answer({rpc, Module, Function, Args, TimeoutMs}) when is_integer(TimeoutMs), TimeoutMs > 0 ->
    case megaphone_access:function(Module, Function, Args) of
        {ok, M, F} -> apply_function(M, F, Args);
        refused -> refused("a call of ", function(Module, Function, Args), "functions")
    end;
answer(_) ->
    megaphone_calls:failure(badarg, <<"erlang answers {call | sync_event | sync_all_event, "
                                      "Target, Request, TimeoutMs} and "
                                      "{rpc, Module, Function, Args, TimeoutMs}">>).

%% @doc The request may have less time than its call.
-spec time(term(), pos_integer()) -> pos_integer().
time({rpc, _, _, _, TimeoutMs}, Time) when is_integer(TimeoutMs), TimeoutMs > 0 ->
    min(TimeoutMs, Time);
time(_Request, Time) ->
    Time.

%% gen:call/4 is what every behaviour's call is made of, and gen_fsm is no module of OTP's for ever.
call(Label, Target, Request, TimeoutMs) ->
    case megaphone_access:may_reach(Target) of
        true -> call_process(Label, megaphone_access:resolve(Target), Request, TimeoutMs);
        false -> refused("a call of ", megaphone_access:outline(Target), "processes")
    end.

call_process(_Label, undefined, _Request, _TimeoutMs) ->
    megaphone_calls:failure(noproc, <<"there is no such process">>);
call_process(Label, Pid, Request, TimeoutMs) ->
    try gen:call(Pid, Label, Request, TimeoutMs) of
        {ok, Answer} -> {ok, term_to_binary(Answer)}
    catch
        exit:timeout -> megaphone_calls:failure(timeout, <<"the process did not answer in time">>);
        exit:noproc -> megaphone_calls:failure(noproc, <<"there is no such process">>);
        exit:Reason -> crash("the process ended: ", exit, Reason)
    end.

apply_function(Module, Function, Args) ->
    try {ok, term_to_binary(apply(Module, Function, Args))}
    catch
        Class:Reason -> crash("the function failed: ", Class, Reason)
    end.

%% To Python, which asked, and not to the log: a reason may hold bodies.
crash(What, Class, Reason) ->
    megaphone_calls:failure(crash, text("~ts~ts:~0tP", [What, Class, Reason, 12])).

refused(What, Outline, Option) ->
    ok = megaphone_port:complain(text("~ts~ts was refused: allowed_~ts does not allow it",
                                      [What, Outline, Option])),
    megaphone_calls:failure(refused, text("allowed_~ts does not allow it", [Option])).

function(Module, Function, Args) when is_binary(Module), is_binary(Function) ->
    io_lib:format("~ts:~ts/~ts", [shown(Module), shown(Function), arity(Args)]);
function(_, _, _) ->
    "what is no function".

%% As long as a name may be.
shown(Name) ->
    megaphone_log:sanitise(binary:part(Name, 0, min(byte_size(Name), 255))).

arity(Args) ->
    try integer_to_list(length(Args))
    catch error:badarg -> "?"
    end.

text(Format, Args) ->
    unicode:characters_to_binary(io_lib:format(Format, Args)).
