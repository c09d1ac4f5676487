-module(megaphone_program_tests).

-include_lib("eunit/include/eunit.hrl").

options(Program) ->
    megaphone_test:options(Program, #{}).

python_test() ->
    ?assertEqual({ok, os:find_executable("sh")}, megaphone_program:python(#{python => <<"sh">>, config_file => undefined})),
    [begin
         {error, Text} = megaphone_program:python(#{python => Name, config_file => undefined}),
         ?assertNotEqual(nomatch, string:find(Text, Name))
     end || Name <- [<<"no-such-python">>, <<"/no/such/python">>]].

cannot_be_started_test() ->
    [begin
         {error, Text} = megaphone_program:open(#{python => Path, config_file => undefined}),
         ?assertNotEqual(nomatch, string:find(Text, Path))
     end || Path <- [<<"/no/such/python">>, <<"/etc/passwd">>, <<"/tmp">>]].

wait({_, Monitor}, Ms) ->
    receive {'DOWN', Monitor, process, _, Reason} -> Reason
    after Ms -> error(helper_still_there)
    end.

%% The whole group ends, not the leader only.
end_group_test() ->
    {ok, Port, {OsPid, _} = Process} = megaphone_program:open(options("says_nothing")),
    %% open_port/2 returns before the program's setsid(2).
    true = megaphone_test:until(fun() -> not megaphone_test:group_is_gone(OsPid) end),
    normal = wait(megaphone_program:end_group(Process, 0), megaphone_program:ending_time(0)),
    true = megaphone_test:until(fun() -> megaphone_test:group_is_gone(OsPid) end, 2000),
    receive {Port, {exit_status, 137}} -> ok after 1000 -> error(no_exit_status) end.

%% Signals go nowhere near a process that has the number now and started at another time.
a_reused_pid_is_left_alone_test() ->
    {ok, Port, {OsPid, _} = Process} = megaphone_program:open(options("says_nothing")),
    true = megaphone_test:until(fun() -> not megaphone_test:group_is_gone(OsPid) end),
    normal = wait(megaphone_program:end_group({OsPid, <<"1">>}, 0), 1000),
    ?assertNot(megaphone_test:group_is_gone(OsPid)),
    normal = wait(megaphone_program:end_group(Process, 0), megaphone_program:ending_time(0)),
    receive {Port, {exit_status, _}} -> ok after 1000 -> error(no_exit_status) end.

%% However early the signal is sent, the program ends.
end_group_at_once_test() ->
    [begin
         {ok, Port, {OsPid, _} = Process} = megaphone_program:open(options("says_nothing")),
         normal = wait(megaphone_program:end_group(Process, 0), megaphone_program:ending_time(0)),
         true = megaphone_test:until(fun() -> megaphone_test:group_is_gone(OsPid) end, 2000),
         receive {Port, {exit_status, 137}} -> ok after 1000 -> error(no_exit_status) end
     end || _ <- lists:seq(1, 10)].

%% What ends by itself in its time of grace is not killed, and the wait is no longer than it takes.
grace_test() ->
    {ok, Port, {OsPid, _} = Process} = megaphone_program:open(options("answers")),
    true = port_close(Port),
    Started = erlang:monotonic_time(millisecond),
    normal = wait(megaphone_program:end_group(Process, 5000), 8000),
    ?assert(erlang:monotonic_time(millisecond) - Started < 4000),
    true = megaphone_test:until(fun() -> megaphone_test:group_is_gone(OsPid) end, 2000).

check_test() ->
    {exit_status, 1, Output} = megaphone_program:check(options("fails_at_import")),
    Lines = string:split(string:trim(Output), "\n", all),
    %% Two descriptors and one pipe: nothing of either is lost.
    ?assertEqual(lists:sort([<<"printed before the import">>, <<"Traceback (most recent call last):">>,
                             <<"ModuleNotFoundError: No module named 'bridge'">>]), lists:sort(Lines)).

%% Ten seconds of a program that prints as fast as it can: what is kept is bounded, the first and
%% the last of it.
check_without_end_test_() ->
    {timeout, 30,
     fun() ->
             Before = erlang:memory(total),
             Self = self(),
             {Pid, Monitor} = spawn_monitor(fun() -> Self ! {checked, megaphone_program:check(options("prints_without_end"))} end),
             receive {checked, {timeout, Output}} -> ok after 20000 -> Output = none end,
             wait({Pid, Monitor}, 5000),
             ?assertEqual(65536, byte_size(Output)),
             ?assertMatch(<<"the first line\n", _/binary>>, Output),
             ?assert(erlang:memory(total) - Before < 64 * 1024 * 1024)
     end}.

check_stops_test() ->
    {Pid, Monitor} = megaphone_check:start(options("prints_without_end")),
    ok = megaphone_check:stop(Pid),
    ?assertEqual(normal, wait({Pid, Monitor}, megaphone_program:ending_time(0))).
