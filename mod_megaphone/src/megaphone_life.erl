%%% One life of the port program as its owner sees it: from the start of the process to the end
%%% of its group, or the time that a sidecar is the active one. Every function runs in the owner and
%%% none of them blocks.
-module(megaphone_life).

-export([start/1, adopt/2, event/2, data/2, queue/3, signals/2, is_full/1, reply/3,
         forget/2, written/3, tick/3, close/2]).
-export([connected_since/1, os_pid/1, peer/1, sidecar/1, status/1, started_at/1]).
-export_type([life/0, event/0, reason/0, sidecar/0]).

%% Bytes of uncredited frames (heartbeats, credit) that may wait for the writer; more than that
%% means that the program does not read, and they are left out.
-define(MAX_UNCREDITED, 65536).

%% Bytes that wait for credit and the writer; with more, proxies take nothing new.
-define(ENOUGH, 1048576).

%% Frames that are read before the mailbox is looked at again: the VM goes on reading from a program
%% that writes without credit, and a window of small frames takes its time.
-define(SLICE, 256).

-record(life, {transport :: megaphone_transport:transport(),
               %% The process that the node has started, or the sidecar that came by itself.
               program :: {process, megaphone_program:process()} | {sidecar, sidecar()},
               writer :: pid(),
               max_frame :: pos_integer(),
               inflow :: megaphone_inflow:inflow(),
               outflow :: megaphone_outflow:outflow(item()),
               peer = none :: none | megaphone_protocol:peer(),
               started :: integer(),
               connected = none :: none | integer(),
               heard :: integer(),
               due = none :: none | integer(),
               %% A frame of signals is with the writer: until it is written, those that follow
               %% wait, and travel together.
               signalling = false :: boolean(),
               uncredited = 0 :: non_neg_integer(),
               %% Frames until the mailbox is looked at again.
               until_look = ?SLICE :: non_neg_integer(),
               beats = 0 :: non_neg_integer()}).

-opaque life() :: #life{}.
-type item() :: {call, Prefix :: iolist(), Deadline :: integer()}
              | {batch, Broadcast :: binary(), Frame :: iolist()}
              | {signals, megaphone_signals:batch()}
              | {frame, Frame :: iolist()}.
-type written() :: credited | signals | uncredited.
-type reason() :: {exit_status, non_neg_integer()} | {port, term()} | closed | {socket, term()}
                | {silent, integer()} | {hello, iodata()} | no_hello | writer
                | megaphone_inflow:violation().
%% An authenticated sidecar whose turn it is; its socket belongs to the owner already.
-type sidecar() :: #{transport := megaphone_transport:transport(), inflow := megaphone_inflow:inflow(),
                     epoch := pos_integer(), identity := binary(), address := binary()}.
%% What the owner has to do something about.
-type event() :: {hello, megaphone_protocol:peer()} | {bad, megaphone_protocol:reason()}
               | megaphone_protocol:message().

-spec start(map()) -> {ok, life()} | {error, iodata()}.
start(Options = #{max_frame := MaxFrame, port_window := Window}) ->
    case megaphone_program:open(Options) of
        {ok, Port, Process} ->
            Life = new({port, Port}, {process, Process}, megaphone_inflow:new(Window), MaxFrame),
            {ok, uncredited(megaphone_protocol:hello(Options), Life)};
        {error, _} = Error ->
            Error
    end.

%% @doc The life of a sidecar that becomes the active one.
-spec adopt(sidecar(), map()) -> {ok, life()} | {ended, reason()}.
adopt(Sidecar = #{transport := Transport, inflow := Inflow, epoch := Epoch},
      Options = #{max_frame := MaxFrame}) ->
    Life = new(Transport, {sidecar, Sidecar}, Inflow, MaxFrame),
    {hello, Hello} = megaphone_protocol:hello(Options),
    case megaphone_transport:activate_later(Transport) of
        ok -> {ok, uncredited({hello, Hello#{<<"epoch">> => Epoch}}, Life)};
        {error, _} ->
            _ = close(0, Life),
            {ended, closed}
    end.

new(Transport, Program, Inflow, MaxFrame) ->
    Now = now_ms(),
    #life{transport = Transport, program = Program, max_frame = MaxFrame, started = Now, heard = Now,
          writer = megaphone_writer:start_link(Transport), inflow = Inflow,
          outflow = megaphone_outflow:new(0)}.

%% @doc What a message of the owner's mailbox means for this life.
-spec event(term(), life()) -> {data, binary()} | {written, written(), pos_integer()}
                             | {ended, reason()} | none.
event({megaphone_writer, Writer, {Kind, Cost}}, #life{writer = Writer}) -> {written, Kind, Cost};
event({'EXIT', Writer, _}, #life{writer = Writer}) -> {ended, writer};
event(Info, #life{transport = Transport}) ->
    case megaphone_transport:event(Info, Transport) of
        %% Only now: what it delivered is taken in, and beyond the credit it may send no more.
        passive ->
            case megaphone_transport:activate_later(Transport) of
                ok -> none;
                {error, _} -> {ended, closed}
            end;
        Event ->
            Event
    end.

%% @doc Takes in what the program sent: the bytes given and all that wait in the mailbox, for
%% what has arrived before any credit is given back for it is what may be beyond the credit.
%% Events come in the order of the frames, those before a violation too.
-spec data(binary(), life()) -> {ok, [event()], life()} | {ended, reason(), [event()], life()}.
data(First, Life = #life{transport = Transport, inflow = Inflow}) ->
    Chunks = megaphone_transport:arrived(
               Transport, megaphone_inflow:allowed(Inflow) - byte_size(First), [First]),
    case megaphone_inflow:data(join(Chunks), Inflow) of
        {ok, Taken} -> frames(Life#life{inflow = Taken, heard = now_ms()}, []);
        {violation, Reason} -> {ended, Reason, [], Life}
    end.

%% @doc Queues a frame that costs credit, and writes what may be written.
-spec queue(item(), PayloadSize :: pos_integer(), life()) -> {ok, life()} | overload | too_large.
queue(_Item, Size, #life{peer = #{max_frame := Max}}) when Size > Max ->
    too_large;
queue(Item, Size, Life = #life{outflow = Outflow}) ->
    case megaphone_outflow:push(Item, Size + 4, Outflow) of
        {ok, Queued} -> {ok, flush(Life#life{outflow = Queued})};
        overload -> overload
    end.

%% @doc Queues signals of a process, in the frame that waits already if there is one.
-spec signals(megaphone_signals:batch(), life()) -> {ok, life()} | overload | too_large.
signals(Batch, Life = #life{peer = #{max_frame := Max}, outflow = Outflow}) ->
    Size = megaphone_signals:payload_size(Batch),
    More = megaphone_signals:data_size(Batch),
    Extend = fun({signals, Waiting}, Cost) when Cost - 4 + More =< Max ->
                     {ok, {signals, megaphone_signals:join(Waiting, Batch)}};
                (_, _) ->
                     no
             end,
    case megaphone_outflow:extend(Extend, More, Outflow) of
        {ok, Extended} -> {ok, flush(Life#life{outflow = Extended})};
        overload -> overload;
        no -> queue({signals, Batch}, Size, Life)
    end.

%% @doc Whether so much waits that proxies are to wait too.
-spec is_full(life()) -> boolean().
is_full(#life{outflow = Outflow}) ->
    megaphone_outflow:queued(Outflow) > ?ENOUGH.

%% @doc Answers a call of the program's. An answer for which there is no room is left out: the
%% caller's time runs out instead.
-spec reply(integer(), megaphone_calls:outcome(), life()) -> life().
reply(Id, {Outcome, Binary}, Life) ->
    {Frame, Size} = megaphone_frame:encode({replies, [{Id, Outcome, Binary}]}),
    case queue({frame, Frame}, Size, Life) of
        {ok, Queued} -> Queued;
        _ -> Life
    end.

%% @doc Drops the queued batches of a broadcast.
-spec forget(binary(), life()) -> life().
forget(Broadcast, Life = #life{outflow = Outflow}) ->
    Keep = fun({batch, Of, _}) -> Of =/= Broadcast;
              (_) -> true
           end,
    Life#life{outflow = megaphone_outflow:filter(Keep, Outflow)}.

%% @doc The port has taken a frame.
-spec written(written(), pos_integer(), life()) -> life().
written(signals, Cost, Life) ->
    written(credited, Cost, Life#life{signalling = false});
written(credited, Cost, Life = #life{outflow = Outflow}) ->
    flush(Life#life{outflow = megaphone_outflow:written(Cost, Outflow)});
written(uncredited, Cost, Life = #life{uncredited = Uncredited}) ->
    Life#life{uncredited = Uncredited - Cost}.

%% @doc A heartbeat interval has passed. Timeout is the silence, in milliseconds, that is death.
-spec tick(pos_integer(), pos_integer(), life()) -> {ok, life()} | {ended, reason()}.
tick(Interval, Timeout, Life = #life{due = Due, heard = Heard, beats = Beats, inflow = Inflow}) ->
    Now = now_ms(),
    Lag = case Due of
              none -> 0;
              _ -> max(0, Now - Due)
          end,
    %% A late tick means that the node itself was held up: what the program sent may not have
    %% been read yet, so its silence counts from here.
    Since = case Lag > Interval of
                true -> Now;
                false -> Heard
            end,
    case Now - Since > Timeout of
        true ->
            {ended, {silent, Now - Since}};
        false ->
            Ticked = Life#life{heard = Since, due = Now + Interval, beats = Beats + 1,
                               inflow = megaphone_inflow:tick(Inflow)},
            {ok, uncredited({heartbeat, Beats, Lag}, Ticked)}
    end.

%% @doc Closes the port, which the program sees as end of file, and has its group ended after
%% GraceMs. Whatever it still sent is dropped unread. Returns the process that sees to the end;
%% there is none where the node cannot end the program.
-spec close(non_neg_integer(), life()) -> none | {pid(), reference()}.
close(GraceMs, #life{transport = Transport, writer = Writer, program = Program}) ->
    true = unlink(Writer),
    exit(Writer, kill),
    %% Closing first: from here on nothing more arrives, however fast the program writes.
    ok = megaphone_transport:close(Transport),
    Helper = case Program of
                 {process, Process} -> megaphone_program:end_group(Process, GraceMs);
                 {sidecar, _} -> none
             end,
    drain(Transport, Writer),
    true = erlang:garbage_collect(),
    Helper.

-spec connected_since(life()) -> none | integer().
connected_since(#life{connected = Connected}) -> Connected.

-spec started_at(life()) -> integer().
started_at(#life{started = Started}) -> Started.

-spec os_pid(life()) -> pos_integer() | undefined.
os_pid(#life{program = {process, {0, _}}}) -> undefined;
os_pid(#life{program = {process, {OsPid, _}}}) -> OsPid;
%% As the sidecar says: where it counts may be another machine, or another container.
os_pid(#life{peer = #{os_pid := OsPid}}) -> OsPid;
os_pid(_) -> undefined.

-spec sidecar(life()) -> none | sidecar().
sidecar(#life{program = {sidecar, Sidecar}}) -> Sidecar;
sidecar(_) -> none.

-spec peer(life()) -> none | megaphone_protocol:peer().
peer(#life{peer = Peer}) -> Peer.

-spec status(life()) -> #{binary() => term()}.
status(Life = #life{connected = Connected, outflow = Outflow}) ->
    Seconds = case Connected of
                  none -> undefined;
                  _ -> (now_ms() - Connected) / 1000
              end,
    #{<<"transport">> => atom_to_binary(megaphone_transport:kind(Life#life.transport), utf8),
      <<"os_pid">> => os_pid(Life),
      <<"connected_seconds">> => Seconds,
      <<"queued_bytes">> => megaphone_outflow:queued(Outflow),
      <<"credit_bytes">> => megaphone_outflow:credit(Outflow)}.

join([Only]) -> Only;
join(Chunks) -> iolist_to_binary(lists:reverse(Chunks)).

frames(Life = #life{until_look = 0, transport = Transport, inflow = Inflow}, Events) ->
    Looked = Life#life{until_look = ?SLICE},
    case megaphone_transport:arrived(Transport, megaphone_inflow:allowed(Inflow), []) of
        [] ->
            frames(Looked, Events);
        Chunks ->
            case megaphone_inflow:data(join(Chunks), Inflow) of
                {ok, Taken} -> frames(Looked#life{inflow = Taken}, Events);
                {violation, Reason} -> {ended, Reason, lists:reverse(Events), Looked}
            end
    end;
frames(Life = #life{inflow = Inflow, until_look = Left}, Events) ->
    case megaphone_inflow:next(Inflow) of
        {more, Rest} ->
            {ok, lists:reverse(Events), grant(Life#life{inflow = Rest})};
        {violation, Reason} ->
            {ended, Reason, lists:reverse(Events), Life};
        {bad, Reason, Rest} ->
            frames(Life#life{inflow = Rest, until_look = Left - 1}, [{bad, Reason} | Events]);
        {message, Message, Rest} ->
            message(Message, Life#life{inflow = Rest, until_look = Left - 1}, Events)
    end.

message({hello, Map}, Life = #life{peer = none, max_frame = MaxFrame, inflow = Inflow}, Events) ->
    case megaphone_protocol:greet(Map) of
        {ok, Peer = #{credit := Credit}} ->
            Greeted = Life#life{peer = Peer, connected = now_ms(),
                                inflow = megaphone_inflow:limit(MaxFrame, Inflow),
                                outflow = megaphone_outflow:grant(Credit, Life#life.outflow)},
            frames(Greeted, [{hello, Peer} | Events]);
        {error, Text} ->
            {ended, {hello, Text}, lists:reverse(Events), Life}
    end;
%% It stood by until now, and said so: those were on their way when its turn came.
message({heartbeat, _, _}, Life = #life{peer = none, program = {sidecar, _}}, Events) ->
    frames(Life, Events);
message(_, Life = #life{peer = none}, Events) ->
    {ended, {hello, "its first frame is no hello"}, lists:reverse(Events), Life};
message({hello, _}, Life, Events) ->
    {ended, {hello, "it said hello twice"}, lists:reverse(Events), Life};
message({heartbeat, _, _}, Life, Events) ->
    frames(Life, Events);
message({credit, Bytes}, Life = #life{outflow = Outflow}, Events) ->
    frames(flush(Life#life{outflow = megaphone_outflow:grant(Bytes, Outflow)}), Events);
message(Message, Life, Events) ->
    frames(Life, [Message | Events]).

%% A grant is never left out, or the program would wait for ever. There is one for each quarter
%% of a window that the program has sent, so they are few whether it reads them or not.
grant(Life = #life{inflow = Inflow}) ->
    case megaphone_inflow:grant(Inflow) of
        {0, _} -> Life;
        {Bytes, Granted} -> send({credit, Bytes}, Life#life{inflow = Granted})
    end.

flush(Life = #life{outflow = Outflow, writer = Writer}) ->
    case megaphone_outflow:pop(Outflow) of
        wait ->
            Life;
        {{signals, _}, _, _} when Life#life.signalling ->
            Life;
        {{signals, Batch}, Cost, Popped} ->
            ok = megaphone_writer:write(Writer, megaphone_signals:frame(Batch), {signals, Cost}),
            flush(Life#life{outflow = megaphone_outflow:writing(Cost, Popped), signalling = true});
        {Item, Cost, Popped} ->
            case frame(Item) of
                expired ->
                    flush(Life#life{outflow = Popped});
                Frame ->
                    ok = megaphone_writer:write(Writer, Frame, {credited, Cost}),
                    flush(Life#life{outflow = megaphone_outflow:writing(Cost, Popped)})
            end
    end.

frame({call, Prefix, Deadline}) ->
    case Deadline - now_ms() of
        Left when Left > 0 -> megaphone_protocol:call_frame(Prefix, Left);
        _ -> expired
    end;
frame({batch, _Broadcast, Frame}) -> Frame;
frame({frame, Frame}) -> Frame.

uncredited(_Message, Life = #life{uncredited = Uncredited}) when Uncredited > ?MAX_UNCREDITED ->
    Life;
uncredited(Message, Life) ->
    send(Message, Life).

send(Message, Life = #life{writer = Writer, uncredited = Uncredited}) ->
    {Frame, Size} = megaphone_frame:encode(Message),
    ok = megaphone_writer:write(Writer, Frame, {uncredited, Size + 4}),
    Life#life{uncredited = Uncredited + Size + 4}.

drain(Transport, Writer) ->
    ok = megaphone_transport:drain(Transport),
    receive
        {'EXIT', Writer, _} -> drain(Transport, Writer);
        {megaphone_writer, Writer, _} -> drain(Transport, Writer)
    after 0 -> ok
    end.

now_ms() ->
    erlang:monotonic_time(millisecond).
