-module(megaphone_reason_tests).

-include_lib("eunit/include/eunit.hrl").

text_test_() ->
    [?_assertEqual({Reason, Text}, {Reason, megaphone_reason:text(Reason, program)})
     || {Reason, Text} <-
            [{{start, ["there is ", <<"no é"/utf8>>]}, <<"there is no é"/utf8>>},
             {no_hello, <<"it said no hello in time">>},
             {replaced, <<"it has connected anew">>},
             {{hello, "its first frame is no hello"}, <<"its first frame is no hello">>},
             {{exit_status, 0}, <<"it ended with status 0">>},
             {{exit_status, 128}, <<"it ended with status 128">>},
             {{exit_status, 137}, <<"it was ended by signal 9">>},
             {{port, epipe}, <<"it ended while the node wrote to it">>},
             {{port, normal}, <<"its port closed: normal">>},
             {{port, {a, b}}, <<"its port closed">>},
             {closed, <<"it closed the connection">>},
             {{socket, etimedout}, <<"its connection broke: connection timed out">>},
             {{socket, {tls_alert, {unexpected_message, "x"}}}, <<"its connection broke">>},
             {writer, <<"it takes no more data">>}]].

%% The node kills what it has started, and nothing else.
punishment_test_() ->
    [?_assertEqual({Reason, <<Text/binary, End/binary>>}, {Reason, megaphone_reason:text(Reason, Whose)})
     || {Whose, End} <- [{program, <<" and was killed">>}, {sidecar, <<" and was cut off">>}],
        {Reason, Text} <- [{{silent, 5001}, <<"it was silent for 5001 ms">>},
                           {{bad_length, 0, 65536}, <<"it sent a frame of 0 bytes where 1 to 65536 are allowed">>},
                           {credit, <<"it sent more than its credit allows">>},
                           {flood, <<"it sent heartbeats or credit without end">>}]].

remedy_test() ->
    Remedy = megaphone_reason:remedy(<<"/opt/é/python"/utf8>>),
    ?assertNotEqual(nomatch, string:find(Remedy, <<"'/opt/é/python -I -m bridge.port_program --check'"/utf8>>)).
