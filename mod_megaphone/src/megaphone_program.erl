%%% The port program as a process of the operating system: open it, end it with its group,
%%% find out why it does not start.
%%%
%%% erl_child_setup calls setsid(2) for each program it starts, so the program leads a session
%%% and a process group of its own, and its pid names the group: workers of the program are
%%% in it, the node is not.
-module(megaphone_program).

-export([open/1, end_group/2, ending_time/1, check/1, python/1]).
-export_type([process/0, options/0]).

-include("logger.hrl").

-define(ARGS, ["-I", "-u", "-m", "bridge.port_program"]).
%% Milliseconds between two looks at whether the leader is gone, as sleep(1) takes it.
-define(POLL, "0.05").
-define(POLL_MS, 50).
%% Looks after SIGKILL: 2 s.
-define(POLLS_AFTER_KILL, 40).
%% Milliseconds that starting /bin/sh and its processes may take on a loaded machine.
-define(SHELL_TIME, 3000).
%% How often it is tried when there is no room for another port, and the milliseconds between.
-define(SHELL_TRIES, 5).
-define(SHELL_PAUSE, 200).
%% Milliseconds and bytes of a check.
-define(CHECK_TIME, 10000).
-define(CHECK_HEAD, 16384).
-define(CHECK_TAIL, 49152).

%% The pid that leads the group, and the clock tick since boot at which it started
%% (/proc/PID/stat, proc(5)): both together are never used again.  0 is no process.
-type process() :: {OsPid :: non_neg_integer(), Started :: binary() | unknown}.
-type options() :: #{python := binary(), config_file := undefined | binary(), atom() => term()}.

%% @doc Starts the program, its port owned by the calling process: file descriptors 3 and 4,
%% a stream. An error is one line for the operator.
-spec open(options()) -> {ok, port(), process()} | {error, iodata()}.
open(Options) ->
    case python(Options) of
        {ok, Python} -> open_port(Python, ?ARGS, [nouse_stdio], Options);
        {error, _} = Error -> Error
    end.

%% @doc Where the Python is that runs the program.
-spec python(options()) -> {ok, file:filename()} | {error, iodata()}.
python(#{python := Python}) ->
    Name = binary_to_filename(Python),
    case {os:find_executable(Name), lists:member($/, Name)} of
        {false, true} ->
            {error, io_lib:format("~ts is not there or is no program that can be run", [Python])};
        {false, false} ->
            {error, io_lib:format("there is no ~ts in the PATH of ejabberd", [Python])};
        {Path, _} ->
            {ok, Path}
    end.

%% @doc Ends the process group from a process of its own, which the calling process monitors.
%% GraceMs is how long the group may take to end by itself. The process is gone after
%% ending_time(GraceMs) milliseconds at the latest.
-spec end_group(process(), non_neg_integer()) -> {pid(), reference()}.
end_group(Process, GraceMs) ->
    spawn_monitor(fun() -> signal_group(Process, GraceMs) end).

-spec ending_time(non_neg_integer()) -> pos_integer().
ending_time(GraceMs) ->
    GraceMs + ?POLLS_AFTER_KILL * ?POLL_MS + ?SHELL_TIME + ?SHELL_TRIES * ?SHELL_PAUSE.

%% @doc Runs the program once more with its output kept. Takes at most ten seconds, plus the
%% time that ending it takes; not for a process that others wait for. The message `stop` ends it.
-spec check(options()) -> {exit_status, non_neg_integer(), binary()} | {timeout, binary()}
                        | stopped | {error, iodata()}.
check(Options) ->
    case python(Options) of
        {error, _} = Error ->
            Error;
        {ok, Python} ->
            case open_port(Python, ?ARGS ++ ["--check"], [stderr_to_stdout], Options) of
                {ok, Port, Process} ->
                    Timer = erlang:start_timer(?CHECK_TIME, self(), check),
                    Result = collect(Port, Timer, <<>>, <<>>),
                    _ = erlang:cancel_timer(Timer),
                    signal_group(Process, 0),
                    Result;
                {error, _} = Error ->
                    Error
            end
    end.

open_port(Python, Args, Extra, Options) ->
    Settings = [{args, Args}, exit_status, binary, stream, hide, {env, environment(Options)} | Extra],
    try open_port({spawn_executable, Python}, Settings) of
        Port ->
            case erlang:port_info(Port, os_pid) of
                {os_pid, OsPid} -> {ok, Port, {OsPid, start_time(OsPid)}};
                %% It ended before we looked; its exit_status is on the way.
                undefined -> {ok, Port, {0, unknown}}
            end
    catch
        error:enoent -> {error, io_lib:format("there is no ~ts", [Python])};
        error:eacces -> {error, io_lib:format("ejabberd's user may not run ~ts", [Python])};
        error:Reason -> {error, io_lib:format("~ts cannot be started: ~0p", [Python, Reason])}
    end.

environment(#{config_file := ConfigFile}) ->
    Config = case ConfigFile of
                 undefined -> [];
                 _ -> [{"MEGAPHONE_CONFIG", binary_to_filename(ConfigFile)}]
             end,
    Locale = case os:getenv("LC_ALL", "") of
                 "" -> [{"LC_ALL", "C.UTF-8"}];
                 _ -> []
             end,
    %% What systemd gives ejabberd is ejabberd's own: a program that used it would speak for it.
    Config ++ Locale ++ [{"NOTIFY_SOCKET", false}, {"WATCHDOG_USEC", false}, {"WATCHDOG_PID", false},
                         {"PYTHONSAFEPATH", "1"}].

binary_to_filename(Binary) ->
    case unicode:characters_to_list(Binary) of
        Chars when is_list(Chars) -> Chars;
        _ -> binary_to_list(Binary)
    end.

signal_group({0, _}, _GraceMs) ->
    ok;
signal_group({OsPid, Started}, GraceMs) ->
    case start_time(OsPid) of
        %% While any process of a group lives its number is no other's pid (POSIX, 3.290), and a
        %% leader that is gone has no start time: only a pid that lives and started at another
        %% time belongs to somebody else.
        Other when Other =/= unknown, Other =/= Started, Started =/= unknown -> ok;
        _ -> run_signals(integer_to_list(OsPid), GraceMs div ?POLL_MS)
    end.

%% It waits for the leader only, which erl_child_setup reaps at once: in a container whose first
%% process reaps nobody, orphans of the group stay there as zombies that signal 0 still finds.
%% The first SIGKILL can come before the program's setsid(2); the program has its end of file by
%% then, and the second comes after it.
run_signals(OsPid, Polls) ->
    Script = "wait_for() { n=$2; while [ \"$n\" -gt 0 ] && kill -s 0 \"$1\" 2>/dev/null; do "
        "sleep " ?POLL "; n=$((n-1)); done; }\n"
        "wait_for \"$1\" \"$2\"\n"
        "kill -s KILL -- \"-$1\" 2>/dev/null || { sleep " ?POLL "; kill -s KILL -- \"-$1\" 2>/dev/null; }\n"
        "wait_for \"$1\" \"$3\"\n",
    Args = ["-c", Script, "megaphone", OsPid, integer_to_list(Polls),
            integer_to_list(?POLLS_AFTER_KILL)],
    case open_shell(Args, ?SHELL_TRIES) of
        {ok, Port} ->
            receive
                {Port, {exit_status, _}} -> ok
            after Polls * ?POLL_MS + ?POLLS_AFTER_KILL * ?POLL_MS + ?SHELL_TIME - 100 ->
                    true = port_close(Port),
                    ok
            end;
        {error, Reason} ->
            ?ERROR_MSG("megaphone: process group ~ts could not be killed: ~p. If processes of it are "
                       "left, end them: kill -s KILL -- -~ts", [OsPid, Reason, OsPid])
    end.

%% Ports or descriptors may be used up for a moment (system_limit, emfile, eagain).
open_shell(Args, Tries) ->
    try {ok, open_port({spawn_executable, "/bin/sh"}, [{args, Args}, exit_status, in, hide])}
    catch
        error:_ when Tries > 1 ->
            receive after ?SHELL_PAUSE -> open_shell(Args, Tries - 1) end;
        error:Reason ->
            {error, Reason}
    end.

%% Raw: the file server, which others wait for, has no part in it.
start_time(OsPid) ->
    case file:open("/proc/" ++ integer_to_list(OsPid) ++ "/stat", [raw, read, binary]) of
        {ok, File} ->
            Read = file:read(File, 4096),
            _ = file:close(File),
            case Read of
                {ok, Stat} -> nth_start_time(Stat);
                _ -> unknown
            end;
        {error, _} ->
            unknown
    end.

%% Field 22. Field 2, the command in parentheses, may hold anything; the last one closes it.
nth_start_time(Stat) ->
    {Close, 1} = lists:last(binary:matches(Stat, <<")">>)),
    Fields = binary:split(binary:part(Stat, Close + 2, byte_size(Stat) - Close - 2), <<" ">>, [global]),
    lists:nth(20, Fields).

collect(Port, Timer, Head, Tail) ->
    receive
        {Port, {data, Data}} ->
            {NewHead, NewTail} = keep(Data, Head, Tail),
            collect(Port, Timer, NewHead, NewTail);
        {Port, {exit_status, Status}} ->
            {exit_status, Status, <<Head/binary, Tail/binary>>};
        {timeout, Timer, check} ->
            true = port_close(Port),
            {timeout, <<Head/binary, Tail/binary>>};
        stop ->
            true = port_close(Port),
            stopped
    end.

%% The first lines say what was printed, the last ones what went wrong.
keep(Data, Head, Tail) when byte_size(Head) < ?CHECK_HEAD ->
    Room = min(?CHECK_HEAD - byte_size(Head), byte_size(Data)),
    <<Fits:Room/binary, Rest/binary>> = Data,
    keep(Rest, <<Head/binary, Fits/binary>>, Tail, ?CHECK_TAIL);
keep(Data, Head, Tail) ->
    keep(Data, Head, Tail, ?CHECK_TAIL).

keep(Data, Head, Tail, Max) ->
    Joined = <<Tail/binary, Data/binary>>,
    Over = max(0, byte_size(Joined) - Max),
    {Head, binary:part(Joined, Over, byte_size(Joined) - Over)}.
