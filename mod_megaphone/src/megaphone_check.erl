%%% Finds out why the port program ends before its hello, and tells the node's log: under
%%% `-detached` what a failing import prints reaches nobody otherwise.
-module(megaphone_check).

-export([start/1, stop/1]).

-include("logger.hrl").

%% Lines of a check's output that are logged: the last ones, where the error is.
-define(MAX_LINES, 100).

%% @doc Runs the check in a process of its own, which the calling process monitors and which
%% ends by itself within a bounded time.
-spec start(megaphone_program:options()) -> {pid(), reference()}.
start(Options) ->
    spawn_monitor(fun() -> report(megaphone_program:check(Options), Options) end).

%% @doc Asks a check to end early, with the program that it runs.
-spec stop(pid()) -> ok.
stop(Pid) ->
    Pid ! stop,
    ok.

report({error, _}, _Options) ->
    %% There is nothing to run: the owner has said so.
    ok;
report(stopped, _Options) ->
    ok;
report({exit_status, 0, _}, _Options) ->
    ?WARNING_MSG("megaphone: the port program ended before its hello, but finds nothing wrong "
                 "when it checks itself", []);
report({exit_status, Status, Output}, Options) ->
    lines(Output),
    complain(io_lib:format("its check ended with status ~b", [Status]), Options);
report({timeout, Output}, Options) ->
    lines(Output),
    complain("its check did not end in time", Options).

complain(What, #{python := Python}) ->
    ?ERROR_MSG("megaphone: the port program does not start: ~ts. ~ts",
               [What, string:titlecase(megaphone_reason:remedy(Python))]).

lines(Output) ->
    Lines = [Line || Line <- binary:split(Output, <<"\n">>, [global]), Line =/= <<>>],
    Last = lists:nthtail(max(0, length(Lines) - ?MAX_LINES), Lines),
    lists:foreach(fun(Line) -> megaphone_log:emit(error, <<"check">>, Line) end, Last).
