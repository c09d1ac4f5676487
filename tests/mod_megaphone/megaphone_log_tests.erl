-module(megaphone_log_tests).

-include_lib("eunit/include/eunit.hrl").

sanitise_test_() ->
    [?_assertEqual(Clean, megaphone_log:sanitise(Raw))
     || {Raw, Clean} <- [{<<"plain\ttext">>, <<"plain\ttext">>},
                         {<<"Zoë 👋"/utf8>>, <<"Zoë 👋"/utf8>>},
                         {<<"line\r\n">>, <<"line">>},
                         {<<"a\nb\rc">>, <<"a\\nb\\rc">>},
                         {<<"\e[31mred", 0, 127>>, <<"\\x1b[31mred\\x00\\x7f">>},
                         {<<16#85/utf8, 16#202e/utf8, 16#2028/utf8>>, <<"\\x85\\u202e\\u2028">>},
                         {<<255, "x", 16#c3>>, <<"\\xffx\\xc3">>}]].

sanitise_cuts_between_characters_test() ->
    Long = binary:copy(<<"é"/utf8>>, 5000),
    Cut = megaphone_log:sanitise(<<"x", Long/binary>>),
    ?assertEqual(<<"x", (binary:part(Long, 0, 4094))/binary, "...">>, Cut).

guarded_test() ->
    Secret = <<"the body of a message">>,
    Same = fun(Value) -> megaphone_log:guarded(fun() -> Value end) end,
    ?assertEqual(Secret, Same(Secret)),
    [begin
         {error, Shown, Stack} = raised(Raise),
         ?assertEqual(Reason, Shown),
         ?assertEqual(nomatch, string:find(io_lib:format("~p", [Stack]), "body of"))
     end || {Raise, Reason} <- [{fun() -> ok = Same(Secret) end, {badmatch, redacted}},
                                {fun() -> error(Secret) end, redacted},
                                {fun() -> megaphone_log:sanitise([Secret]) end, badarg}]].

raised(Raise) ->
    try megaphone_log:guarded(Raise)
    catch Class:Reason:Stack -> {Class, Reason, Stack}
    end.

%% Ten times what is admitted in a second, in well under a second.
too_many_lines_test() ->
    megaphone_test:with_log(
      fun() ->
              Limiter = lists:foldl(fun(_, Acc) -> megaphone_log:line(info, <<"s">>, <<"flood">>, Acc) end,
                                    megaphone_log:new(), lists:seq(1, 2000)),
              Flood = length(megaphone_test:logged("flood")),
              ?assert(Flood >= 200),
              %% The second may turn once meanwhile.
              ?assert(Flood =< 400),
              true = next_second(),
              _ = megaphone_log:line(error, <<"s">>, <<"after">>, Limiter),
              [{error, After}] = megaphone_test:logged("after"),
              ?assertEqual("megaphone[s] after", After),
              ?assertMatch([{warning, _} | _], megaphone_test:logged("lines of the port program were dropped"))
      end).

%% Nothing more comes after the flood: the count is told all the same, once.
dropped_lines_are_told_test() ->
    megaphone_test:with_log(
      fun() ->
              Flooded = lists:foldl(fun(_, Acc) -> megaphone_log:line(info, <<"s">>, <<"flood">>, Acc) end,
                                    megaphone_log:new(), lists:seq(1, 2000)),
              true = next_second(),
              Before = length(megaphone_test:logged("were dropped")),
              Told = megaphone_log:tick(Flooded),
              ?assertEqual(Before + 1, length(megaphone_test:logged("were dropped"))),
              ?assertEqual(Told, megaphone_log:tick(Told)),
              ?assertEqual(Before + 1, length(megaphone_test:logged("were dropped")))
      end).

next_second() ->
    Second = erlang:monotonic_time(second),
    megaphone_test:until(fun() -> erlang:monotonic_time(second) > Second end).

levels_test() ->
    megaphone_test:with_log(
      fun() ->
              [megaphone_log:emit(Level, <<"s">>, <<"levels">>)
               || Level <- [debug, info, warning, error, critical]],
              ?assertEqual([debug, info, warning, error, critical],
                           [Level || {Level, _} <- megaphone_test:logged("levels")])
      end).
