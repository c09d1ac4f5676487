%%% Writes to the port, for one life of the program. A busy port suspends the process that
%%% writes: this one, never the owner, which stays able to notice, to kill and to close.
%%%
%%% Its mailbox is bounded by the owner, which hands it no more than megaphone_outflow allows.
-module(megaphone_writer).

-export([start_link/1, write/3, init/2]).

%% @doc A writer linked to the calling process, which receives {megaphone_writer, Pid, Ack}
%% for each frame once the port has taken it.
-spec start_link(port()) -> pid().
start_link(Port) ->
    proc_lib:spawn_link(?MODULE, init, [self(), Port]).

-spec write(pid(), iodata(), Ack :: term()) -> ok.
write(Writer, Frame, Ack) ->
    Writer ! {write, Frame, Ack},
    ok.

%% @private
-spec init(pid(), port()) -> ok.
init(Owner, Port) ->
    %% Frames hold message bodies: no crash report, trace or dump may show them.
    _ = process_flag(sensitive, true),
    loop(Owner, Port).

loop(Owner, Port) ->
    receive
        {write, Frame, Ack} ->
            try port_command(Port, Frame) of
                true ->
                    Owner ! {?MODULE, self(), Ack},
                    loop(Owner, Port)
            catch
                %% The port is closed; the owner learns that from the port.
                error:badarg -> ok
            end;
        _ ->
            loop(Owner, Port)
    end.
