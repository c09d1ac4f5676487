%% What several tests of the Erlang end use.
-module(megaphone_test).

-export([with_log/1, logged/1, log_text/0, until/1, until/2, caught/1, program/1, options/2, standin/1, remove_standin/1,
         group_is_gone/1]).
%% logger's handler
-export([log/2]).

-include_lib("eunit/include/eunit.hrl").

%% Runs a fun while every line that is logged is kept.
with_log(Fun) ->
    Table = ets:new(?MODULE, [named_table, public, ordered_set]),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => Table, level => all}),
    #{level := Level} = logger:get_primary_config(),
    ok = logger:set_primary_config(level, all),
    ok = logger:set_handler_config(default, level, none),
    try Fun()
    after
        ok = logger:set_handler_config(default, level, all),
        ok = logger:set_primary_config(level, Level),
        ok = logger:remove_handler(?MODULE),
        ets:delete(Table)
    end.

log(#{level := Level, msg := _} = Event, #{config := Table}) ->
    Text = logger_formatter:format(Event, #{single_line => true, template => [msg]}),
    ets:insert(Table, {erlang:unique_integer([monotonic]), Level, lists:flatten(Text)}).

%% The lines so far that contain a text.
logged(Part) ->
    [{Level, Text} || {_, Level, Text} <- ets:tab2list(?MODULE), string:find(Text, Part) =/= nomatch].

log_text() ->
    [[Text, $\n] || {_, _, Text} <- ets:tab2list(?MODULE)].

until(Condition) ->
    until(Condition, 10000).

%% Waits for a condition; its first value that is not false.
until(Condition, Ms) ->
    poll(Condition, erlang:monotonic_time(millisecond) + Ms).

poll(Condition, Deadline) ->
    case Condition() of
        false ->
            case erlang:monotonic_time(millisecond) > Deadline of
                true -> error(deadline);
                false -> receive after 10 -> poll(Condition, Deadline) end
            end;
        Value -> Value
    end.

%% The fun's value, or the reason of its exit as {'EXIT', Reason}.
caught(Fun) ->
    try Fun()
    catch exit:Reason -> {'EXIT', Reason}
    end.

program(Name) ->
    unicode:characters_to_binary(filename:join([os:getenv("MEGAPHONE_TESTS"), "programs", Name])).

%% The module's defaults, in test time.
options(Program, Changes) ->
    maps:merge(#{python => program(Program), config_file => undefined,
                 sidecar => undefined, heartbeat_interval => 100, heartbeat_timeout => 1000, hello_timeout => 10000,
                 max_frame => 4194304, port_window => 8388608,
                 restart_intensity => 5, restart_period => 60000, retry_interval => 60000, max_processes => 1000,
                 sample_interval => 60000, reconciliation_interval => 60000,
                 pipeline_heartbeat_interval => infinity}, Changes).

%% A module of the package, put in place of the real one for a test.
standin(Source) ->
    {ok, Tokens, _} = erl_scan:string(Source),
    Forms = [begin {ok, Form} = erl_parse:parse_form(Part), Form end || Part <- split(Tokens, [])],
    {ok, Module, Binary} = compile:forms(Forms, [nowarn_export_all, export_all]),
    _ = code:purge(Module),
    {module, Module} = code:load_binary(Module, "standin", Binary),
    Module.

remove_standin(Module) ->
    _ = code:purge(Module),
    _ = code:delete(Module),
    code:purge(Module).

split([], []) -> [];
split([{dot, _} = Dot | Rest], Form) -> [lists:reverse([Dot | Form]) | split(Rest, [])];
split([Token | Rest], Form) -> split(Rest, [Token | Form]).

%% Whether no process of the group is left, zombies aside.
group_is_gone(Group) ->
    Stats = [binary:split(Stat, <<") ">>) || Path <- filelib:wildcard("/proc/[0-9]*/stat"),
                                             {ok, Stat} <- [file:read_file(Path)]],
    [] =:= [Fields || [_, Tail] <- Stats,
                      [State, _Parent, Pgrp | _] = Fields <- [binary:split(Tail, <<" ">>, [global])],
                      State =/= <<"Z">>, binary_to_integer(Pgrp) =:= Group].
