%%% What the node sends: a queue bounded in bytes, let out as the program's credit and the
%%% writer allow. No process, no I/O.
-module(megaphone_outflow).

-export([new/1, push/3, extend/3, filter/2, pop/1, grant/2, writing/2, written/2]).
-export([queued/1, credit/1, unwritten/1, max_queue/0]).
-export_type([outflow/1]).

%% Bytes that may wait for credit; beyond it a request is refused with `overload`.
-define(MAX_QUEUE, 33554432).
%% Bytes handed to the writer and not written yet; one frame may always be with it.
-define(MAX_WRITING, 1048576).

-record(outflow, {credit :: non_neg_integer(),
                  queue = queue:new() :: queue:queue({pos_integer(), term()}),
                  queued = 0 :: non_neg_integer(),
                  writing = 0 :: non_neg_integer()}).

-opaque outflow(_Item) :: #outflow{}.

-spec new(Credit :: non_neg_integer()) -> outflow(_).
new(Credit) ->
    #outflow{credit = Credit}.

%% @doc Queues an item whose frame costs Cost bytes.
-spec push(Item, pos_integer(), outflow(Item)) -> {ok, outflow(Item)} | overload.
push(Item, Cost, Outflow = #outflow{queue = Queue, queued = Queued})
  when Queued + Cost =< ?MAX_QUEUE ->
    {ok, Outflow#outflow{queue = queue:in({Cost, Item}, Queue), queued = Queued + Cost}};
push(_, _, _) ->
    overload.

%% @doc Puts more into the item that was queued last, at the cost of so many bytes more, where
%% Extend makes one of both.
-spec extend(fun((Item, pos_integer()) -> {ok, Item} | no), pos_integer(), outflow(Item)) ->
          {ok, outflow(Item)} | overload | no.
extend(Extend, More, Outflow = #outflow{queue = Queue, queued = Queued}) ->
    case queue:peek_r(Queue) of
        {value, {Cost, Item}} ->
            case Extend(Item, Cost) of
                {ok, Extended} when Queued + More =< ?MAX_QUEUE ->
                    {ok, Outflow#outflow{queue = queue:in({Cost + More, Extended}, queue:drop_r(Queue)),
                                         queued = Queued + More}};
                {ok, _} -> overload;
                no -> no
            end;
        empty ->
            no
    end.

%% @doc Forgets the queued items for which Keep says no.
-spec filter(fun((Item) -> boolean()), outflow(Item)) -> outflow(Item).
filter(Keep, Outflow = #outflow{queue = Queue}) ->
    Kept = queue:filter(fun({_, Item}) -> Keep(Item) end, Queue),
    Outflow#outflow{queue = Kept, queued = lists:sum([Cost || {Cost, _} <- queue:to_list(Kept)])}.

%% @doc The next item if it may be written now. The caller either writes it and says so with
%% writing/2, which is when it costs credit, or drops it.
-spec pop(outflow(Item)) -> {Item, Cost :: pos_integer(), outflow(Item)} | wait.
pop(Outflow = #outflow{credit = Credit, queue = Queue, queued = Queued, writing = Writing}) ->
    case queue:peek(Queue) of
        {value, {Cost, Item}} when Cost =< Credit, Writing =:= 0;
                                   Cost =< Credit, Writing + Cost =< ?MAX_WRITING ->
            {Item, Cost, Outflow#outflow{queue = queue:drop(Queue), queued = Queued - Cost}};
        _ ->
            wait
    end.

%% @doc An item of the queue goes to the writer.
-spec writing(pos_integer(), outflow(Item)) -> outflow(Item).
writing(Cost, Outflow = #outflow{credit = Credit, writing = Writing}) ->
    Outflow#outflow{credit = Credit - Cost, writing = Writing + Cost}.

-spec written(pos_integer(), outflow(Item)) -> outflow(Item).
written(Cost, Outflow = #outflow{writing = Writing}) ->
    Outflow#outflow{writing = Writing - Cost}.

-spec grant(pos_integer(), outflow(Item)) -> outflow(Item).
grant(Bytes, Outflow = #outflow{credit = Credit}) ->
    Outflow#outflow{credit = min(Credit + Bytes, 1 bsl 40)}.

-spec queued(outflow(_)) -> non_neg_integer().
queued(#outflow{queued = Queued}) -> Queued.

-spec credit(outflow(_)) -> non_neg_integer().
credit(#outflow{credit = Credit}) -> Credit.

-spec unwritten(outflow(_)) -> non_neg_integer().
unwritten(#outflow{writing = Writing}) -> Writing.

-spec max_queue() -> pos_integer().
max_queue() -> ?MAX_QUEUE.
