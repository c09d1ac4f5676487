%%% What Python asks of Erlang without a process of its own: the name `erlang` of docs/protocol.md.
%%% Runs in the process of the call, whose time the owner of the port bounds.
%%%
%%% What Python made is a binary in its request: an atom that the node does not know fails the
%%% decoding of a whole frame, and would leave the call without an answer.
-module(megaphone_requests).

-export([answer/1, time/2]).

-spec answer(term()) -> megaphone_calls:outcome().
answer({Kind, Target, Request, TimeoutMs})
  when is_binary(Target), is_binary(Request), is_integer(TimeoutMs), TimeoutMs > 0 ->
    call(label(Kind), megaphone_protocol:decode_term(Target),
         megaphone_protocol:decode_term(Request), TimeoutMs);
answer({rpc, Module, Function, Args, TimeoutMs})
  when is_binary(Args), is_integer(TimeoutMs), TimeoutMs > 0 ->
    rpc(Module, Function, megaphone_protocol:decode_term(Args));
answer(nodes) ->
    {ok, term_to_binary(megaphone_access:nodes())};
answer(_) ->
    badarg("erlang answers nodes, {call | sync_event | sync_all_event, Target, Request, TimeoutMs} and "
           "{rpc, Module, Function, Args, TimeoutMs}").

%% @doc The request may have less time than its call.
-spec time(term(), pos_integer()) -> pos_integer().
time({rpc, _, _, _, TimeoutMs}, Time) when is_integer(TimeoutMs), TimeoutMs > 0 ->
    min(TimeoutMs, Time);
time(_Request, Time) ->
    Time.

label(call) -> '$gen_call';
label(sync_event) -> '$gen_sync_event';
label(sync_all_event) -> '$gen_sync_all_state_event';
label(_) -> none.

call(none, _Target, _Request, _TimeoutMs) ->
    badarg("it is none of call, sync_event and sync_all_event");
%% Nobody has a name that is no atom here.
call(_Label, {error, _}, _Request, _TimeoutMs) ->
    noproc();
call(_Label, _Target, {error, Reason}, _TimeoutMs) ->
    badarg(["the request is ", megaphone_protocol:describe(Reason)]);
call(Label, {ok, Target}, {ok, Request}, TimeoutMs) ->
    case megaphone_access:may_reach(Target) of
        true -> call_process(Label, Target, Request, TimeoutMs);
        false -> refused(megaphone_access:outline(Target), megaphone_access:closed_by(Target))
    end.

%% gen:call/4 is what every behaviour's call is made of; gen_fsm itself goes from OTP one day.
call_process(Label, Target, Request, TimeoutMs) ->
    case {megaphone_access:resolve(Target), Target} of
        {undefined, _} -> noproc();
        {disconnected, {_, Node}} -> nodedown(Node);
        {Process, _} -> call_found(Label, Process, Request, TimeoutMs)
    end.

call_found(Label, Process, Request, TimeoutMs) ->
    try gen:call(Process, Label, Request, TimeoutMs) of
        {ok, Answer} -> {ok, term_to_binary(Answer)}
    catch
        exit:timeout -> megaphone_calls:failure(timeout, <<"the process did not answer in time">>);
        exit:noproc -> noproc();
        exit:{nodedown, Node} -> nodedown(Node);
        exit:Reason -> crash("the process ended: ", exit, Reason)
    end.

rpc(_Module, _Function, {error, Reason}) ->
    badarg(["the arguments are ", megaphone_protocol:describe(Reason)]);
rpc(Module, Function, {ok, Args}) ->
    case megaphone_access:function(Module, Function, Args) of
        {ok, M, F} -> apply_function(M, F, Args);
        refused -> refused(function(Module, Function, Args), "allowed_functions")
    end.

apply_function(Module, Function, Args) ->
    try {ok, term_to_binary(apply(Module, Function, Args))}
    catch
        Class:Reason -> crash("the function failed: ", Class, Reason)
    end.

%% To Python, which asked, and not to the log: a reason may hold bodies.
crash(What, Class, Reason) ->
    megaphone_calls:failure(crash, text("~ts~ts:~0tP", [What, Class, Reason, 12])).

refused(Outline, Option) ->
    ok = megaphone_port:complain(text("a call of ~ts was refused: ~ts does not allow it",
                                      [Outline, Option])),
    megaphone_calls:failure(refused, text("~ts does not allow it", [Option])).

noproc() ->
    megaphone_calls:failure(noproc, <<"there is no such process">>).

nodedown(Node) ->
    megaphone_calls:failure(nodedown, atom_to_binary(Node, utf8)).

badarg(What) ->
    megaphone_calls:failure(badarg, unicode:characters_to_binary(What)).

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
