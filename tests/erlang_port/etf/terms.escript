#!/usr/bin/env escript
%%! -noshell -sname etf_terms -start_epmd false -dist_listen false
%% Terms of every kind, for tests of a codec.
%%
%%   terms.escript golden               prints the OTP release, and Name Base64 lines
%%   terms.escript check SEED N         writes N frames {N, Bytes} to a peer on stdin and stdout: for
%%                                      each it reads back the peer's own encoding and compares =:=
%%   terms.escript judge                reads pairs of frames, some bytes and what the peer made of
%%                                      them (empty when it refused them), and says for each `refused`
%%                                      (by this VM), `read` (by this VM alone), `same` or `different`

-mode(compile).

main(["golden"]) ->
    io:format("~b~n", [release()]),
    [io:format("~s ~s~n", [Name, base64:encode(Bytes)]) || {Name, Bytes} <- golden()];
main(["check", Seed, Count]) ->
    ok = io:setopts([binary, {encoding, latin1}]),
    rand:seed(exsss, list_to_integer(Seed)),
    check(list_to_integer(Count));
main(["judge"]) ->
    ok = io:setopts([binary, {encoding, latin1}]),
    judge().

judge() ->
    case frame() of
        eof -> ok;
        Bytes -> write(verdict(Bytes, frame())), judge()
    end.

verdict(Bytes, Theirs) ->
    try binary_to_term(Bytes, [used]) of
        {_, Used} when Used < byte_size(Bytes) -> <<"refused">>;
        _ when Theirs =:= <<>> -> <<"read">>;
        {Term, _} -> try binary_to_term(Theirs) =:= Term of
                         true -> <<"same">>;
                         false -> <<"different">>
                     catch _:_ -> <<"different">>
                     end
    catch _:_ -> <<"refused">>
    end.

check(0) -> write(<<"done">>);
check(N) ->
    Term = term(rand:uniform(6)),
    Ways = [[], [compressed], [{minor_version, 1}], [{minor_version, 2}], [deterministic],
            [{compressed, 9}, {minor_version, 2}]]
        ++ [Way || release() >= 26, not has_fun(Term), Way <- [[local], [local, compressed]]],
    Options = lists:nth(rand:uniform(length(Ways)), Ways),
    write(term_to_binary(Term, Options)),
    Answer = frame(),
    try binary_to_term(Answer) of
        Same when Same =:= Term -> check(N - 1);
        Other -> write(iolist_to_binary(io_lib:format("FAILED ~0p~nbecame ~0p", [Term, Other])))
    catch _:_ -> write(iolist_to_binary(io_lib:format("FAILED ~0p~nas ~0p", [Term, Answer])))
    end.

frame() ->
    case file:read(standard_io, 4) of
        eof -> eof;
        {ok, <<0:32>>} -> <<>>;
        {ok, <<Size:32>>} -> {ok, Bytes} = file:read(standard_io, Size), Bytes
    end.

write(Bytes) -> file:write(standard_io, [<<(byte_size(Bytes)):32>>, Bytes]).

%% OTP 27 and 29 cannot read what they themselves write for a fun with the option local, and die of it.
has_fun(Term) -> re:run(io_lib:format("~w", [Term]), "#Fun<|fun ") =/= nomatch.

term(0) -> leaf();
term(Depth) ->
    Sub = fun() -> term(rand:uniform(Depth) - 1) end,
    Some = fun() -> [Sub() || _ <- lists:seq(1, rand:uniform(6) - 1)] end,
    case rand:uniform(8) of
        1 -> list_to_tuple(Some());
        2 -> Some();
        3 -> [Sub() | Some()] ++ leaf();
        4 -> maps:from_list([{Sub(), Sub()} || _ <- lists:seq(1, rand:uniform(5) - 1)]);
        5 -> maps:from_list([{odd_key(), Sub()} || _ <- lists:seq(1, rand:uniform(9))]);
        6 -> X = Sub(), fun() -> X end;
        7 -> lists:seq(1, rand:uniform(40));
        8 -> leaf()
    end.

odd_key() ->
    lists:nth(rand:uniform(16), [1, 1.0, true, <<"1">>, "1", '1', {1}, {1.0}, {true}, 0.0, -0.0, [], #{},
                                 #{1 => 2}, #{1.0 => 2}, lists:foldl(fun(_, T) -> {T} end, x, lists:seq(1, 90))]).

leaf() ->
    case rand:uniform(22) of
        1 -> rand:uniform(256) - 1;
        2 -> -rand:uniform(1000);
        3 -> rand:uniform(1 bsl 31) - (1 bsl 30);
        4 -> (rand:uniform(1 bsl 62) bsl (rand:uniform(2500))) - 5;
        5 -> -(rand:uniform(1 bsl 62) bsl (rand:uniform(100)));
        6 -> rand:normal() * math:pow(10, rand:uniform(600) - 300);
        7 -> lists:nth(rand:uniform(5), [0.0, -0.0, 5.0e-324, 1.7976931348623157e308, 1.0]);
        8 -> rand:bytes(rand:uniform(300) - 1);
        9 -> <<(rand:uniform(1000)):(rand:uniform(77))>>;
        10 -> list_to_atom([rand:uniform(16#D000) || _ <- lists:seq(1, rand:uniform(250))]);
        11 -> lists:nth(rand:uniform(8), [true, false, undefined, '', 'Ünï', none, ok, '\x{1f44b}']);
        12 -> self();
        13 -> hd(erlang:ports());
        14 -> make_ref();
        15 -> alias([reply]);
        16 -> fun lists:map/2;
        17 -> fun leaf/0;
        18 -> [];
        19 -> {};
        20 -> #{};
        21 -> unicode:characters_to_binary([rand:uniform(16#D000)]);
        22 -> native_record([{list_to_atom([$a + N]), rand:uniform(300)} || N <- lists:seq(1, rand:uniform(5) - 1)],
                            rand:uniform(2) =:= 1)
    end.

release() -> list_to_integer(erlang:system_info(otp_release)).

%% Of a definition that does not exist: only what is written counts here.
native_record(Fields, Exported) ->
    case release() >= 29 of
        true -> apply(records, create, [a_module, a_record, Fields, #{is_exported => Exported}]);
        false -> Fields
    end.

golden() ->
    Bin = fun(T) -> term_to_binary(T) end,
    [{"atom", Bin(hello)}, {"true", Bin(true)}, {"undefined", Bin(undefined)}, {"unicode_atom", Bin('žluťoučký')},
     {"long_atom", Bin(list_to_atom(lists:duplicate(255, $é)))}, {"empty_atom", Bin('')},
     {"latin1_atom", term_to_binary('é', [{minor_version, 1}])},
     {"small", Bin(255)}, {"integer", Bin(-1)}, {"big", Bin(1 bsl 64)}, {"negative_big", Bin(-(1 bsl 64))},
     {"large_big", Bin(1 bsl 3000)}, {"float", Bin(1.5)}, {"old_float", term_to_binary(1.5, [{minor_version, 0}])},
     {"negative_zero", Bin(-0.0)}, {"binary", Bin(<<"bytes">>)}, {"bits", Bin(<<5:3>>)}, {"string", Bin("abc")},
     {"list", Bin([a, 300, "x"])}, {"improper", Bin([1, 2 | 3])}, {"tuple", Bin({a, {b}, {}})},
     {"large_tuple", Bin(list_to_tuple(lists:seq(1, 300)))}, {"map", Bin(#{a => 1, <<"b">> => [2]})},
     {"odd_map", Bin(#{1 => a, 1.0 => b, true => c})}, {"list_keys", Bin(#{[1] => a, #{} => b})},
     {"pid", Bin(self())}, {"port", Bin(hd(erlang:ports()))}, {"reference", Bin(make_ref())},
     {"export", Bin(fun lists:map/2)}, {"fun", begin X = 7, Bin(fun() -> X end) end},
     {"compressed", term_to_binary(lists:duplicate(1000, <<"again">>), [compressed])}]
    ++ [Vector || release() >= 26, Vector <- [
        {"local", term_to_binary({self(), b}, [local])},
        {"local_compressed", term_to_binary(lists:duplicate(1000, self()), [local, compressed])}]]
    ++ [Vector || release() >= 29, Vector <- [
        {"native_record", Bin({native_record([{x, 7}, {y, [2]}], false), b})}]].
