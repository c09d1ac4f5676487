%%% One Python process as the rest of the node sees it: a special process that Erlang calls, links
%%% to, monitors and exits. What it receives goes to Python, what Python does goes through here.
%%%
%%% It is no gen_server, which would answer `sys` and `which_children` itself: Python does.
%%%
%%% A turn takes what is in the mailbox, up to a bound, and hands it to the owner of the port in one
%%% request. The owner's answer is late while much waits to be written, and so is the next turn.
-module(megaphone_proxy).

-export([start_link/1, init/2]).

%% Messages of one turn.
-define(MAX_TURN, 256).
%% Milliseconds without a message.
-define(IDLE, 10000).

-record(proxy, {parent :: pid(),
                process :: pos_integer(),
                link = none :: none | megaphone_processes:link(),
                owner = none :: none | reference(),
                max_frame = 0 :: non_neg_integer(),
                callers = megaphone_callers:new() :: megaphone_callers:callers(),
                effects :: megaphone_effects:effects(),
                complaints :: megaphone_complaints:complaints()}).

-type options() :: #{process := pos_integer(), names := [megaphone_names:name()],
                     starter := {pid(), reference()}}.

%% @doc The starter receives {Ref, {ok, Pid} | {error, {Kind, Text}}} once the names are registered
%% and the owner of the port knows the proxy.
-spec start_link(options()) -> {ok, pid()}.
start_link(Options) ->
    proc_lib:start_link(?MODULE, init, [self(), Options]).

%% @private
-spec init(pid(), options()) -> no_return().
init(Parent, Options = #{process := Process}) ->
    _ = process_flag(trap_exit, true),
    _ = process_flag(message_queue_data, off_heap),
    %% The mailbox holds message bodies: no crash report, trace or dump may show them.
    _ = process_flag(sensitive, true),
    ok = proc_lib:init_ack(Parent, {ok, self()}),
    Proxy = #proxy{parent = Parent, process = Process, effects = megaphone_effects:new(Parent),
                   complaints = megaphone_complaints:new(Process)},
    megaphone_log:guarded(fun() -> start(Options, Proxy) end).

-spec start(options(), #proxy{}) -> no_return().
start(#{names := Names, starter := {Starter, Ref}}, Proxy = #proxy{process = Process}) ->
    case register(Names, Process, Starter) of
        {ok, #{link := Link, max_frame := MaxFrame}} ->
            Owner = monitor(process, megaphone_port),
            Starter ! {Ref, {ok, self()}},
            loop(Proxy#proxy{link = Link, owner = Owner, max_frame = MaxFrame});
        {error, Failure} ->
            Starter ! {Ref, {error, Failure}},
            finish(normal, Proxy)
    end.

register(Names, Process, Starter) ->
    case megaphone_names:register(Names) of
        ok -> megaphone_port:attach(Process, Starter);
        {error, _} = Error -> Error
    end.

-spec loop(#proxy{}) -> no_return().
loop(Proxy) ->
    receive
        Message -> loop(turn(Message, Proxy))
    after ?IDLE ->
            %% There may be as many proxies as there are users, each with what its last turn left.
            true = garbage_collect(),
            receive Message -> loop(turn(Message, Proxy)) end
    end.

turn(Message, Proxy) ->
    {Entries, Taken} = take(Message, ?MAX_TURN, [], Proxy),
    #proxy{process = Process, max_frame = MaxFrame, callers = Callers, complaints = Complaints} = Taken,
    {Outcome, Dropped, Rest} =
        megaphone_turn:send(lists:reverse(Entries), Process, MaxFrame, Callers),
    case Outcome of
        ok -> Taken#proxy{callers = Rest,
                          complaints = megaphone_complaints:dropped(Dropped, Complaints)};
        disconnected -> finish(disconnected, Taken)
    end.

take(Message, Left, Entries, Proxy) ->
    {Taken, Next} = message(Message, Entries, Proxy),
    receive
        More when Left > 1 -> take(More, Left - 1, Taken, Next)
    after 0 ->
            {Taken, Next}
    end.

%% Messages: newest entry first.

message({Link, signals, Signals}, Entries, Proxy = #proxy{link = Link}) ->
    lists:foldl(fun signal/2, {Entries, Proxy}, Signals);
message({Link, disconnected}, _Entries, Proxy = #proxy{link = Link}) ->
    finish(disconnected, Proxy);
message({'$gen_call', {Pid, _} = From, Request}, Entries, Proxy) when is_pid(Pid) ->
    {[{call, call, From, Request, infinity} | Entries], Proxy};
message({'$megaphone_call', {Pid, _} = From, {Request, Deadline, Timeout}}, Entries, Proxy)
  when is_pid(Pid), is_integer(Deadline), is_integer(Timeout);
       is_pid(Pid), Deadline =:= infinity ->
    {[{call, call, From, Request, deadline(node(Pid), Deadline, Timeout)} | Entries], Proxy};
message({'$gen_cast', Message}, Entries, Proxy) ->
    {[{signal, cast, 0, Message} | Entries], Proxy};
message({'$gen_event', Event}, Entries, Proxy) ->
    {[{signal, event, 0, Event} | Entries], Proxy};
message({'$gen_all_state_event', Event}, Entries, Proxy) ->
    {[{signal, all_event, 0, Event} | Entries], Proxy};
message({'$gen_sync_event', {Pid, _} = From, Event}, Entries, Proxy) when is_pid(Pid) ->
    {[{call, sync_event, From, Event, infinity} | Entries], Proxy};
message({'$gen_sync_all_state_event', {Pid, _} = From, Event}, Entries, Proxy) when is_pid(Pid) ->
    {[{call, sync_all_event, From, Event, infinity} | Entries], Proxy};
message({system, {Pid, _} = From, Request}, Entries, Proxy) when is_pid(Pid) ->
    {[{call, system, From, Request, infinity} | Entries], Proxy};
message({'EXIT', Parent, Reason}, _Entries, #proxy{parent = Parent}) ->
    exit(Reason);
message({'EXIT', From, Reason}, Entries, Proxy = #proxy{effects = Effects}) ->
    {What, Rest} = megaphone_effects:exited(From, Effects),
    Kind = case What of
               link -> link_exit;
               signal -> exit
           end,
    {[{signal, Kind, 0, {From, Reason}} | Entries], Proxy#proxy{effects = Rest}};
message({'DOWN', Owner, process, _, _}, _Entries, Proxy = #proxy{owner = Owner}) ->
    finish(disconnected, Proxy);
message({'DOWN', Monitor, process, _, Reason} = Message, Entries, Proxy = #proxy{effects = Effects}) ->
    case megaphone_effects:down(Monitor, Effects) of
        {Number, Target, Rest} ->
            {[{signal, down, Number, {Target, Reason}} | Entries], Proxy#proxy{effects = Rest}};
        error ->
            {[{signal, info, 0, Message} | Entries], Proxy}
    end;
message(Message, Entries, Proxy) ->
    {[{signal, info, 0, Message} | Entries], Proxy}.

%% Another node has another clock: there the time begins when the call is taken.
deadline(_Node, infinity, _Timeout) -> infinity;
deadline(Node, Deadline, _Timeout) when Node =:= node() -> Deadline;
deadline(_Node, _Deadline, Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

%% Signals of the program's.

signal({reply, Ref, Binary}, {Entries, Proxy = #proxy{callers = Callers}}) ->
    {Entries, Proxy#proxy{callers = megaphone_callers:reply(Ref, Binary, Callers)}};
signal({refuse, Ref, Binary}, {Entries, Proxy = #proxy{callers = Callers}}) ->
    {Entries, Proxy#proxy{callers = megaphone_callers:refuse(Ref, reason(Binary), Callers)}};
signal({exit, _, Binary}, {_Entries, Proxy}) ->
    finish(reason(Binary), Proxy);
signal({Kind, Ref, Binary}, {Entries, Proxy = #proxy{callers = Callers, effects = Effects}}) ->
    case megaphone_protocol:decode_term(Binary) of
        {ok, Term} ->
            IsCaller = fun(Pid) -> megaphone_callers:is_caller(Pid, Callers) end,
            {Result, Next} = megaphone_effects:do(Kind, Ref, Term, IsCaller, Effects),
            result(Result, Kind, Ref, Term, Entries, Proxy#proxy{effects = Next});
        {error, _} when Kind =:= monitor ->
            %% Nobody has a name that is no atom here.
            {[{signal, down, Ref, {undefined, noproc}} | Entries], Proxy};
        {error, Reason} ->
            {Entries, complain(["its ", atom_to_list(Kind), " was dropped: it holds ",
                                megaphone_protocol:describe(Reason)], Proxy)}
    end.

result(ok, _, _, _, Entries, Proxy) ->
    {Entries, Proxy};
result({down, Target, Reason}, monitor, Ref, _, Entries, Proxy) ->
    {[{signal, down, Ref, {Target, Reason}} | Entries], Proxy};
result({refused, Why}, Kind, Ref, Term, Entries, Proxy) ->
    Complained = complain(["its ", atom_to_list(Kind), " was refused: ", Why], Proxy),
    case Kind of
        monitor -> {[{signal, down, Ref, {Term, refused}} | Entries], Complained};
        link -> {[{signal, link_exit, 0, {Term, refused}} | Entries], Complained};
        _ -> {Entries, Complained}
    end.

complain(Text, Proxy = #proxy{complaints = Complaints}) ->
    Proxy#proxy{complaints = megaphone_complaints:say(Text, Complaints)}.

reason(Binary) ->
    case megaphone_protocol:decode_term(Binary) of
        {ok, Reason} -> Reason;
        {error, Why} -> {bad_reason, Why}
    end.

%% Links and monitors see the reason; the supervisor's report would show it in the log, and it may
%% hold a message's body: to the supervisor the end is a shutdown. An exit by signal is no crash
%% to proc_lib.
-spec finish(term(), #proxy{}) -> no_return().
finish(Reason, #proxy{parent = Parent}) ->
    true = unlink(Parent),
    Parent ! {'EXIT', self(), shutdown},
    _ = process_flag(trap_exit, false),
    case Reason of
        normal -> ok;
        kill -> ok;
        _ -> exit(self(), Reason)
    end,
    exit(Reason).
