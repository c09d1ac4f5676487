%%% A batch: its recipients as columns, what the worker is asked, and its answer taken apart.
%%%
%%% Invariant: each column holds as many values as there are recipients, in the same order. A
%%% value never holds a NUL, which would shift every later recipient's text to somebody else.
-module(megaphone_batch).

-export([new/2, count/1, request/3, halves/1, texts/3, sessions/1, accounts/1, first/1]).
-export_type([batch/0, session/0, account/0]).

-define(SEPARATOR, <<0>>).

-record(batch, {first :: non_neg_integer(),
                count :: pos_integer(),
                columns :: #{binary() => binary()},
                pids :: [pid()] | none}).

-opaque batch() :: #batch{}.
-type session() :: {User :: binary(), Server :: binary(), Resource :: binary(), pid()}.
-type account() :: {User :: binary(), Server :: binary()}.

%% @doc A batch of sessions or of accounts. First is the first recipient's index in the whole
%% broadcast. Recipients that cannot be joined are left out: their number.
-spec new(non_neg_integer(), [session()] | [account()]) ->
          {batch(), LeftOut :: non_neg_integer()} | {empty, LeftOut :: non_neg_integer()}.
new(First, Rows) ->
    case joined(First, Rows) of
        {ok, Batch} ->
            {Batch, 0};
        holds_separator ->
            Clean = [Row || Row <- Rows, is_clean(Row)],
            LeftOut = length(Rows) - length(Clean),
            case Clean of
                [] -> {empty, LeftOut};
                _ ->
                    {ok, Batch} = joined(First, Clean),
                    {Batch, LeftOut}
            end
    end.

joined(First, Rows = [{_, _, _, _} | _]) ->
    Columns = #{<<"user">> => join([User || {User, _, _, _} <- Rows]),
                <<"server">> => join([Server || {_, Server, _, _} <- Rows]),
                <<"resource">> => join([Resource || {_, _, Resource, _} <- Rows])},
    checked(#batch{first = First, count = length(Rows), columns = Columns,
                   pids = [Pid || {_, _, _, Pid} <- Rows]});
joined(First, Rows = [{_, _} | _]) ->
    Columns = #{<<"user">> => join([User || {User, _} <- Rows]),
                <<"server">> => join([Server || {_, Server} <- Rows])},
    checked(#batch{first = First, count = length(Rows), columns = Columns, pids = none}).

checked(Batch = #batch{count = Count, columns = Columns}) ->
    Whole = fun(Column) -> length(binary:matches(Column, ?SEPARATOR)) =:= Count - 1 end,
    case lists:all(Whole, maps:values(Columns)) of
        true -> {ok, Batch};
        false -> holds_separator
    end.

is_clean(Row) ->
    lists:all(fun(Value) -> not is_binary(Value) orelse binary:match(Value, ?SEPARATOR) =:= nomatch
              end, tuple_to_list(Row)).

-spec count(batch()) -> pos_integer().
count(#batch{count = Count}) ->
    Count.

-spec first(batch()) -> non_neg_integer().
first(#batch{first = First}) ->
    First.

%% @doc The body of `batch` (docs/protocol.md), with the columns that the templates use.
-spec request([binary()], [binary()], batch()) -> binary().
request(Templates, Names, #batch{count = Count, columns = Columns}) ->
    term_to_binary({Templates, Count, maps:with(Names, Columns)}).

%% @doc Two batches of the same recipients in the same order.
-spec halves(batch()) -> {batch(), batch()} | single.
halves(#batch{count = 1}) ->
    single;
halves(Batch = #batch{first = First, count = Count}) ->
    Middle = Count div 2,
    {Left, Right} = case Batch#batch.pids of
                        none -> lists:split(Middle, accounts(Batch));
                        _ -> lists:split(Middle, sessions(Batch))
                    end,
    {ok, One} = joined(First, Left),
    {ok, Other} = joined(First + Middle, Right),
    {One, Other}.

-spec sessions(batch()) -> [session()].
sessions(#batch{columns = Columns, pids = Pids}) when is_list(Pids) ->
    #{<<"user">> := Users, <<"server">> := Servers, <<"resource">> := Resources} = Columns,
    zip(split(Users), split(Servers), split(Resources), Pids).

-spec accounts(batch()) -> [account()].
accounts(#batch{columns = #{<<"user">> := Users, <<"server">> := Servers}}) ->
    lists:zip(split(Users), split(Servers)).

%% @doc The body of `batch_done`: for each template its texts in the recipients' order, and the
%% indexes, within the batch, of those who get nothing. Nothing of a body with a wrong number of
%% texts is to be used.
-spec texts(binary(), pos_integer(), batch()) ->
          {ok, [[binary()], ...], #{non_neg_integer() => true}} | {error, Text :: binary()}.
texts(Body, Templates, #batch{count = Count}) ->
    case megaphone_protocol:decode_term(Body) of
        {ok, {Columns, Dropped}} -> texts(Columns, Dropped, Templates, Count);
        _ -> {error, <<"the answer of a worker is no answer of this protocol">>}
    end.

texts(Columns, Dropped, Templates, Count) ->
    case columns(Columns, Templates) of
        false ->
            {error, <<"the answer of a worker has a wrong number of columns">>};
        true ->
            Texts = [split(Column) || Column <- Columns],
            Indexes = indexes(Dropped, Count, #{}),
            case lists:all(fun(Column) -> length(Column) =:= Count end, Texts) of
                true when is_map(Indexes) ->
                    {ok, Texts, Indexes};
                true ->
                    {error, <<"the answer of a worker drops recipients that are not in the batch">>};
                false ->
                    {error, <<"the answer of a worker has a wrong number of texts; none was sent">>}
            end
    end.

%% Both are walked by hand: what a worker sends may be an improper list.
columns([Column | Rest], Left) when is_binary(Column), Left > 0 -> columns(Rest, Left - 1);
columns(Rest, Left) -> Rest =:= [] andalso Left =:= 0.

indexes([{Index, Reason} | Rest], Count, Acc)
  when is_integer(Index), Index >= 0, Index < Count, is_atom(Reason) ->
    indexes(Rest, Count, Acc#{Index => true});
indexes([], _, Acc) -> Acc;
indexes(_, _, _) -> invalid.

join(Values) ->
    iolist_to_binary(lists:join(?SEPARATOR, Values)).

split(Column) ->
    binary:split(Column, ?SEPARATOR, [global]).

zip([User | Users], [Server | Servers], [Resource | Resources], [Pid | Pids]) ->
    [{User, Server, Resource, Pid} | zip(Users, Servers, Resources, Pids)];
zip([], [], [], []) ->
    [].
