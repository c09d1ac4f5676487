%%% What a proxy has to say to the operator: one line a second at most, which says how many were
%%% left out. No process of its own; the owner of the port bounds the lines of all proxies.
-module(megaphone_complaints).

-export([new/1, say/2, dropped/2]).
-export_type([complaints/0]).

-record(complaints, {process :: pos_integer(),
                     second = none :: none | integer(),
                     left_out = 0 :: non_neg_integer()}).

-opaque complaints() :: #complaints{}.

-spec new(pos_integer()) -> complaints().
new(Process) ->
    #complaints{process = Process}.

%% @doc The text holds no part of a message.
-spec say(iodata(), complaints()) -> complaints().
say(Text, Complaints = #complaints{process = Process, second = Before, left_out = LeftOut}) ->
    case erlang:monotonic_time(second) of
        Before ->
            Complaints#complaints{left_out = LeftOut + 1};
        Second ->
            ok = megaphone_port:complain(
                   iolist_to_binary(io_lib:format("process ~b: ~ts~ts",
                                                  [Process, Text, more(LeftOut)]))),
            Complaints#complaints{second = Second, left_out = 0}
    end.

more(0) -> "";
more(LeftOut) -> io_lib:format(" (and ~b lines before that were left out)", [LeftOut]).

-spec dropped(megaphone_turn:dropped(), complaints()) -> complaints().
dropped({0, 0}, Complaints) ->
    Complaints;
dropped({Overload, 0}, Complaints) ->
    say(io_lib:format("~b messages were dropped: too much waits for the port program", [Overload]),
        Complaints);
dropped({Overload, TooLarge}, Complaints) ->
    say(io_lib:format("~b messages were dropped: no frame holds them", [TooLarge]),
        dropped({Overload, 0}, Complaints)).
