%%% Calls from Python to the node: each in a process of its own, bounded in number and in time,
%%% so that neither a slow one nor one that fails is the port owner's trouble.
-module(megaphone_calls).

-export([new/0, start/5, is_running/2, down/3, expired/2, stop/1, answer/2]).
-export([failure/2]).
-export_type([calls/0, outcome/0]).

-define(MAX_CALLS, 64).
%% Milliseconds; a program may ask for less.
-define(MAX_TIME, 30000).

-opaque calls() :: #{reference() => {Id :: integer(), pid(), Timer :: reference()}}.
-type outcome() :: {ok | error, binary()}.

-spec new() -> calls().
new() ->
    #{}.

%% @doc Starts a call. The calling process receives {'DOWN', Ref, process, Pid, Reason}, which
%% goes to down/3, and perhaps {timeout, Timer, {node_call, Ref}}, which goes to expired/2.
-spec start(integer(), binary(), term(), pos_integer(), calls()) ->
          {ok, calls()} | {refused, outcome()}.
start(_Id, _Name, _Request, _TimeoutMs, Calls) when map_size(Calls) >= ?MAX_CALLS ->
    {refused, failure(overload, <<"the node answers as many calls as it may">>)};
start(Id, Name, Request, TimeoutMs, Calls) ->
    {Pid, Ref} = spawn_monitor(fun() ->
                                       %% Requests and answers hold message bodies.
                                       _ = process_flag(sensitive, true),
                                       exit({answer, answer(Name, Request)})
                               end),
    Time = megaphone_requests:time(Request, min(TimeoutMs, ?MAX_TIME)),
    Timer = erlang:start_timer(Time, self(), {node_call, Ref}),
    {ok, Calls#{Ref => {Id, Pid, Timer}}}.

%% @doc Whether the process answers one of these calls.
-spec is_running(pid(), calls()) -> boolean().
is_running(Pid, Calls) ->
    lists:keymember(Pid, 2, maps:values(Calls)).

%% @doc The answer of a call whose process is gone.
-spec down(reference(), term(), calls()) -> {integer(), outcome(), calls()} | error.
down(Ref, Reason, Calls) ->
    case maps:take(Ref, Calls) of
        {{Id, _Pid, Timer}, Rest} ->
            _ = erlang:cancel_timer(Timer),
            case Reason of
                {answer, Outcome} -> {Id, Outcome, Rest};
                killed -> {Id, failure(timeout, <<"the node took too long">>), Rest};
                _ -> {Id, failure(crash, <<"the node's answer crashed">>), Rest}
            end;
        error ->
            error
    end.

-spec expired(reference(), calls()) -> ok.
expired(Ref, Calls) ->
    case Calls of
        #{Ref := {_Id, Pid, _Timer}} -> exit(Pid, kill), ok;
        _ -> ok
    end.

%% @doc Ends all of them: nobody is there to be answered.
-spec stop(calls()) -> ok.
stop(Calls) ->
    maps:foreach(fun(Ref, {_Id, Pid, Timer}) ->
                         _ = erlang:cancel_timer(Timer),
                         erlang:demonitor(Ref, [flush]),
                         exit(Pid, kill)
                 end, Calls).

%% @doc What the node answers; one binary of its own.
-spec answer(binary(), term()) -> outcome().
answer(<<"node">>, status) ->
    try {ok, term_to_binary(megaphone_commands:node_status())}
    catch
        Class:_ ->
            failure(crash, <<"the node's status failed: ", (atom_to_binary(Class, utf8))/binary>>)
    end;
answer(<<"node">>, metrics) ->
    {ok, term_to_binary(megaphone_metrics:all())};
answer(<<"node">>, {metrics, detailed}) ->
    {ok, term_to_binary(megaphone_metrics:detailed())};
answer(<<"node">>, _Request) ->
    failure(badarg, <<"node answers status, metrics and {metrics, detailed}">>);
answer(<<"commands">>, Request) ->
    commands(Request, mod_megaphone:option(sidecar));
answer(<<"processes">>, {start, Process, Names}) when is_integer(Process), Process > 0 ->
    case megaphone_names:are_names(Names) andalso megaphone_proxies:start(Process, Names) of
        {ok, Pid} -> {ok, term_to_binary(Pid)};
        {error, {Kind, Text}} -> failure(Kind, Text);
        false -> failure(badarg, <<"names are [{local | global, Binary}], one of each">>)
    end;
answer(<<"processes">>, _Request) ->
    failure(badarg, <<"processes answers {start, Process, Names} only">>);
answer(<<"erlang">>, Request) ->
    megaphone_requests:answer(Request);
answer(_Name, _Request) ->
    failure(noproc, <<"the node knows no such name">>).

%% What the operator asks for at a sidecar's own socket. A program that the node has started has no
%% operator: there ejabberd's commands are the way, and their permissions.
commands(_Request, undefined) ->
    failure(refused, <<"commands are for sidecars">>);
commands({broadcast, Json}, _) when is_binary(Json) ->
    {ok, term_to_binary(list_to_binary(megaphone_commands:broadcast(Json)))};
commands({broadcast_status, Id}, _) when is_binary(Id) ->
    {ok, term_to_binary(list_to_binary(megaphone_commands:broadcast_status(Id)))};
commands(_Request, _) ->
    failure(badarg, <<"commands are {broadcast, Json} and {broadcast_status, Id}">>).

%% @doc The answer of a call that failed.
-spec failure(megaphone_protocol:error_kind(), binary()) -> outcome().
failure(Kind, Text) ->
    {error, term_to_binary({Kind, Text})}.
