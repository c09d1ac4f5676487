%%% Writes to the port or socket, for one life of the program. A busy one suspends the process that
%%% writes: this one, never the owner, which stays able to notice, to kill and to close.
%%%
%%% Its mailbox is bounded by the owner, which hands it no more than megaphone_outflow allows.
-module(megaphone_writer).

-export([start_link/1, write/3, init/2]).

%% @doc A writer linked to the calling process, which receives {megaphone_writer, Pid, Ack}
%% for each frame once it has been taken.
-spec start_link(megaphone_transport:transport()) -> pid().
start_link(Transport) ->
    proc_lib:spawn_link(?MODULE, init, [self(), Transport]).

-spec write(pid(), iodata(), Ack :: term()) -> ok.
write(Writer, Frame, Ack) ->
    Writer ! {write, Frame, Ack},
    ok.

%% @private
-spec init(pid(), megaphone_transport:transport()) -> ok.
init(Owner, Transport) ->
    %% Frames hold message bodies: no crash report, trace or dump may show them.
    _ = process_flag(sensitive, true),
    loop(Owner, Transport).

loop(Owner, Transport) ->
    receive
        {write, Frame, Ack} ->
            case megaphone_transport:send(Transport, Frame) of
                ok ->
                    Owner ! {?MODULE, self(), Ack},
                    loop(Owner, Transport);
                %% The owner learns that from the transport.
                closed ->
                    ok
            end;
        _ ->
            loop(Owner, Transport)
    end.
