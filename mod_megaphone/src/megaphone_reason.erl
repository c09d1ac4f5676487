%%% Why a life of the port program ended, in the operator's words.
-module(megaphone_reason).

-export([text/1, remedy/1]).
-export_type([reason/0]).

-type reason() :: {start, iodata()} | no_hello | megaphone_life:reason().

%% @doc One line, without a full stop.
-spec text(reason()) -> binary().
text({start, Text}) ->
    iolist(Text);
text(no_hello) ->
    <<"it said no hello in time">>;
text({hello, Text}) ->
    iolist(Text);
text({exit_status, Status}) when Status > 128, Status =< 192 ->
    iolist(io_lib:format("it was ended by signal ~b", [Status - 128]));
text({exit_status, Status}) ->
    iolist(io_lib:format("it ended with status ~b", [Status]));
text({silent, Ms}) ->
    iolist(io_lib:format("it was silent for ~b ms and was killed", [Ms]));
text({bad_length, Length, Max}) ->
    iolist(io_lib:format("it sent a frame of ~b bytes where 1 to ~b are allowed and was killed",
                         [Length, Max]));
text(credit) ->
    <<"it sent more than its credit allows and was killed">>;
text(flood) ->
    <<"it sent heartbeats or credit without end and was killed">>;
text({port, epipe}) ->
    <<"it ended while the node wrote to it">>;
text({port, Reason}) when is_atom(Reason) ->
    iolist(io_lib:format("its port closed: ~ts", [Reason]));
text({port, _}) ->
    <<"its port closed">>;
text(writer) ->
    <<"its port takes no more data">>.

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
