%%% Why a life of the port program ended, in the operator's words.
-module(megaphone_reason).

-export([text/2, remedy/1]).
-export_type([reason/0]).

-type reason() :: {start, iodata()} | no_hello | replaced | megaphone_life:reason().

%% @doc One line, without a full stop. A program that misbehaves is killed; a sidecar, which the node
%% cannot kill, is cut off.
-spec text(reason(), program | sidecar) -> binary().
text(Reason, Whose) ->
    Text = unicode:characters_to_binary([what(Reason) | punishment(Reason, Whose)]),
    true = is_binary(Text),
    Text.

what({start, Text}) -> Text;
what(no_hello) -> "it said no hello in time";
what(replaced) -> "it has connected anew";
what({hello, Text}) -> Text;
what({exit_status, Status}) when Status > 128, Status =< 192 ->
    io_lib:format("it was ended by signal ~b", [Status - 128]);
what({exit_status, Status}) -> io_lib:format("it ended with status ~b", [Status]);
what({silent, Ms}) -> io_lib:format("it was silent for ~b ms", [Ms]);
what({bad_length, Length, Max}) ->
    io_lib:format("it sent a frame of ~b bytes where 1 to ~b are allowed", [Length, Max]);
what(credit) -> "it sent more than its credit allows";
what(flood) -> "it sent heartbeats or credit without end";
what({port, epipe}) -> "it ended while the node wrote to it";
what({port, Reason}) when is_atom(Reason) -> io_lib:format("its port closed: ~ts", [Reason]);
what({port, _}) -> "its port closed";
what(closed) -> "it closed the connection";
what({socket, Reason}) when is_atom(Reason) ->
    io_lib:format("its connection broke: ~ts", [inet:format_error(Reason)]);
what({socket, _}) -> "its connection broke";
what(writer) -> "it takes no more data".

punishment(Reason, Whose) when Reason =:= credit; Reason =:= flood;
                               element(1, Reason) =:= silent; element(1, Reason) =:= bad_length ->
    case Whose of
        program -> " and was killed";
        sidecar -> " and was cut off"
    end;
punishment(_Reason, _Whose) ->
    "".

%% @doc What the operator can do about a program that does not stay up.
-spec remedy(binary()) -> binary().
remedy(Python) ->
    iolist(io_lib:format("run '~ts -I -m bridge.port_program --check' as ejabberd's user; if that "
                         "fails, set the option 'python' of mod_megaphone to a Python in which "
                         "Megaphone is installed and that ejabberd's user may read and run",
                         [Python])).

iolist(Text) ->
    Binary = unicode:characters_to_binary(Text),
    true = is_binary(Binary),
    Binary.
