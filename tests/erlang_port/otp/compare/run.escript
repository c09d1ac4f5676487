#!/usr/bin/env escript
%%! -noshell -start_epmd false -dist_listen false -sname otp_compare
%% Plays scenarios with OTP's own behaviours and prints what was seen, as one Base64 line.
%%
%%   run.escript BEHAVIOUR FILE       BEHAVIOUR: gen_server, gen_statem or gen_fsm

-mode(compile).

main([Behaviour, File]) ->
    %% gen_fsm has been superseded for long, and may be gone.
    code:which(list_to_atom(Behaviour)) =/= non_existing orelse halt(3),
    logger:set_primary_config(level, none),
    Here = filename:dirname(filename:absname(escript:script_name())),
    [load(Source) || Source <- filelib:wildcard(filename:join(Here, "*.erl"))],
    {ok, Scenarios} = file:consult(File),
    Played = [{Name, Steps, actors:play(list_to_atom(Behaviour), Steps)} || {Name, Steps} <- Scenarios],
    io:format("~s~n", [base64:encode(term_to_binary(Played))]).

load(Source) ->
    {ok, Module, Beam, _} = compile:file(Source, [binary, return, nowarn_deprecated_function]),
    {module, Module} = code:load_binary(Module, Source, Beam).
