-module(megaphone_handshake_tests).

-include_lib("eunit/include/eunit.hrl").

-define(MINE, <<1:256>>).

told() -> #{heartbeat_interval => 1000, heartbeat_timeout => 5000}.

%% A handshake that the sidecar has opened, and the node's random number.
opened() ->
    {ok, <<"megaphone", 1, Theirs:32/binary>>, Opened} =
        megaphone_handshake:opened(sidecar_standin:opening(?MINE), megaphone_handshake:new()),
    {Opened, Theirs}.

proved(Claim) ->
    {Opened, Theirs} = opened(),
    megaphone_handshake:proved(sidecar_standin:proof(sidecar_standin:claim(Claim), ?MINE, Theirs),
                               sidecar_test:secret(), Opened).

right_test() ->
    Instance = crypto:strong_rand_bytes(16),
    ?assertEqual({ok, #{identity => <<"a">>, instance => Instance, epoch => 7}},
                 proved(#{identity => <<"a">>, instance => Instance, epoch => 7})).

%% Both ends digest the same bytes, and the numbers that they were told are among them.
accept_test() ->
    {Opened, Theirs} = opened(),
    <<0, Proof:32/binary, 1000:32, 5000:32>> = Told =
        megaphone_handshake:accept(told(), sidecar_test:secret(), Opened),
    ?assertEqual(crypto:mac(hmac, sha256, sidecar_test:secret(),
                            [<<"megaphone", 1, 4, "node">>, ?MINE, Theirs, <<1000:32, 5000:32>>]),
                 Proof),
    ?assertNotEqual(Told, megaphone_handshake:accept((told())#{heartbeat_interval := 1001},
                                                     sidecar_test:secret(), Opened)).

numbers_are_used_once_test() ->
    Theirs = [element(2, opened()) || _ <- lists:seq(1, 100)],
    ?assertEqual(100, length(lists:usort(Theirs))).

wrong_secret_test() ->
    ?assertEqual({error, secret}, proved(#{secret => <<"0123456789abcdef0123456789abcdeF">>})),
    ?assertEqual({error, secret}, proved(#{secret => <<>>})).

%% Each part of the claim is proved.
changed_claim_test_() ->
    {Opened, Theirs} = opened(),
    Proof = sidecar_standin:proof(sidecar_standin:claim(#{epoch => 5}), ?MINE, Theirs),
    [?_assertEqual({error, secret},
                   megaphone_handshake:proved(<<Before/binary, (Byte bxor 1), After/binary>>,
                                              sidecar_test:secret(), Opened))
     || At <- [0, 31, 32, 47, 55, byte_size(Proof) - 1],
        <<Before:At/binary, Byte, After/binary>> <- [Proof]].

%% What somebody has overheard is of no use against another random number.
replay_test() ->
    {Opened, Theirs} = opened(),
    Proof = sidecar_standin:proof(sidecar_standin:claim(#{}), ?MINE, Theirs),
    ?assertMatch({ok, _}, megaphone_handshake:proved(Proof, sidecar_test:secret(), Opened)),
    {Again, _} = opened(),
    ?assertEqual({error, secret}, megaphone_handshake:proved(Proof, sidecar_test:secret(), Again)).

%% The node's own proof, asked of it with the sidecar's number, is no proof of a sidecar's.
reflection_test() ->
    {Opened, _} = opened(),
    <<0, Proof:32/binary, Told/binary>> = megaphone_handshake:accept(told(), sidecar_test:secret(), Opened),
    Padded = <<Proof/binary, Told/binary, 0:(16 * 8), "one">>,
    ?assertEqual({error, secret}, megaphone_handshake:proved(Padded, sidecar_test:secret(), Opened)).

claim_bounds_test_() ->
    [?_assertMatch({ok, #{identity := Identity}}, proved(#{identity => Identity}))
     || Identity <- [<<"!">>, <<"~">>, binary:copy(<<"x">>, 64), <<"a.b-c_d@host:1">>]]
        ++ [?_assertEqual({error, garbage}, proved(#{identity => Identity}))
            || Identity <- [<<>>, binary:copy(<<"x">>, 65), <<"a b">>, <<"a\n">>, <<0>>, <<127>>, <<"\e[1m">>,
                            <<"é"/utf8>>, <<255>>]]
        ++ [?_assertMatch({ok, #{epoch := 16#ffffffffffff}}, proved(#{epoch => 16#ffffffffffff})),
            ?_assertEqual({error, garbage}, proved(#{epoch => 16#1000000000000})),
            ?_assertEqual({error, garbage}, proved(#{epoch => 16#ffffffffffffffff}))].

%% Characters and numbers are looked at only of somebody who knows the secret.
garbage_without_the_secret_test() ->
    ?assertEqual({error, secret}, proved(#{identity => <<"a b">>, secret => <<"x">>})).

any_bytes_test() ->
    {Opened, _} = opened(),
    [?assertMatch({error, _}, megaphone_handshake:proved(crypto:strong_rand_bytes(Size),
                                                         sidecar_test:secret(), Opened))
     || Size <- lists:seq(0, 200)],
    [?assertMatch({error, _}, megaphone_handshake:opened(crypto:strong_rand_bytes(Size),
                                                         megaphone_handshake:new()))
     || Size <- lists:seq(0, 200)].

openings_test_() ->
    [?_assertEqual({error, Reason}, megaphone_handshake:opened(Opening, megaphone_handshake:new()))
     || {Opening, Reason} <- [{<<"megaphone", 2, 0:256>>, version}, {<<"megaphone", 2>>, version},
                              {<<"megaphone", 0, 0:256>>, version},
                              {<<"megaphone", 1, 0:248>>, garbage}, {<<"megaphone", 1, 0:264>>, garbage},
                              {<<"megaphone">>, garbage}, {<<>>, garbage}, {<<"Megaphone", 1, 0:256>>, garbage}]].

refuse_test() ->
    ?assertEqual([<<1, "text">>, <<2, "text">>, <<3, "text">>, <<4, "text">>, <<5, "text">>, <<6, "text">>],
                 [megaphone_handshake:refuse(Why, ["te", <<"xt">>])
                  || Why <- [secret, locked_out, no_secret, identity, version, busy]]).

%% The file.

with_file(Bytes, Fun) ->
    fun() ->
            Directory = sidecar_test:directory(),
            File = filename:join(Directory, <<"secret of ключ"/utf8>>),
            try
                [ok = file:write_file(File, Bytes) || is_binary(Bytes)],
                Fun(megaphone_handshake:secret(File), File)
            after
                sidecar_test:remove(Directory)
            end
    end.

secret_test_() ->
    Random = <<255, 254, 0, 16#e2, 16#82, (binary:copy(<<200>>, 26))/binary, 16#e2>>,
    [with_file(<<Secret/binary, End/binary>>, fun(Read, _) -> ?assertEqual({ok, Secret}, Read) end)
     || Secret <- [sidecar_test:secret(), Random, <<"\n", (sidecar_test:secret())/binary>>,
                   binary:copy(<<"x">>, 4096)],
        End <- [<<>>, <<"\n">>, <<"\r\n">>]].

no_secret_test_() ->
    [with_file(Bytes, fun({error, Text}, File) ->
                              Line = unicode:characters_to_binary(Text),
                              ?assertNotEqual(nomatch, string:find(Line, Part)),
                              ?assertNotEqual(nomatch, string:find(Line, File)),
                              ?assertEqual(nomatch, string:find(Line, "topsecret"))
                      end)
     || {Bytes, Part} <- [{<<"topsecret 789abcdef0123456789ab\n">>, "holds 31 bytes, and a secret has 32"}, {<<>>, "holds 0 bytes"},
                          {<<"\n\n">>, "holds 0 bytes"}, {none, "is not there: make one with"},
                          {<<"topsecret", 0:(4097 * 8)>>, "more than 4096"}]].

unreadable_secret_test() ->
    Directory = sidecar_test:directory(),
    {error, Text} = megaphone_handshake:secret(Directory),
    ?assertNotEqual(nomatch, string:find(Text, "cannot be read")),
    sidecar_test:remove(Directory).
