%%% From texts to stanzas to people.
%%%
%%% Two ways. `session`: straight to each session's process, where privacy lists, carbons and
%%% stream management still run. Right only for what nobody archives: the router's hooks, which
%%% archive and store, do not see it. `router`: to each account's bare JID, as any message.
-module(megaphone_delivery).

-export([way/1, unit/1, start_link/5, deliver/5]).
-export_type([way/0, counts/0]).

-include("xmpp.hrl").

-type way() :: session | router.
-type counts() :: {Sent :: non_neg_integer(), Gone :: non_neg_integer(),
                   Dropped :: non_neg_integer()}.

%% @doc Decided from the stanza itself: a headline is archived only if a hint asks for it
%% (XEP-0313, XEP-0334); everything else may be, and carbons would multiply it.
-spec way(message()) -> way().
way(#message{type = headline} = Message) ->
    case has_hint(store, Message) andalso not has_hint('no-store', Message) of
        true -> router;
        false -> session
    end;
way(#message{}) ->
    router.

has_hint(Type, #message{sub_els = Elements}) ->
    Name = atom_to_binary(Type, utf8),
    lists:any(fun(#hint{type = Hint}) -> Hint =:= Type;
                 (#xmlel{name = Element, attrs = Attrs}) ->
                      Element =:= Name andalso fxml:get_attr_s(<<"xmlns">>, Attrs) =:= ?NS_HINTS;
                 (_) -> false
              end, Elements).

%% @doc What a recipient is: the router multiplies by itself.
-spec unit(way()) -> megaphone_audience:unit().
unit(session) -> session;
unit(router) -> account.

%% @doc Delivers what a worker made of a batch in a process of its own, which sends its parent
%% {megaphone_delivered, Pid, {ok, counts()} | {error, Text}} and ends. It takes its parent with it
%% if it crashes: who has got the batch is not known then.
-spec start_link(way(), message(), megaphone_batch:batch(), Templates :: pos_integer(),
                 Body :: binary()) -> pid().
start_link(Way, Message, Batch, Templates, Body) ->
    Parent = self(),
    spawn_link(fun() ->
                       _ = process_flag(sensitive, true),
                       Deliver = fun() -> deliver_body(Way, Message, Batch, Templates, Body) end,
                       Parent ! {megaphone_delivered, self(), megaphone_log:guarded(Deliver)}
               end).

deliver_body(Way, Message, Batch, Templates, Body) ->
    case megaphone_batch:texts(Body, Templates, Batch) of
        {ok, Texts, Dropped} ->
            Begin = erlang:monotonic_time(microsecond),
            Counts = deliver(Way, Message, Batch, Texts, Dropped),
            ok = megaphone_counts:observe(route, erlang:monotonic_time(microsecond) - Begin),
            {ok, Counts};
        {error, _} = Error -> Error
    end.

%% @doc Sends a batch its texts (the bodies, then the subjects if there are any). The message is
%% what all have in common: its id becomes a prefix of each one's, and without `from` it comes
%% from the recipient's own host. Dropped are indexes in the batch.
-spec deliver(way(), message(), megaphone_batch:batch(), [[binary()], ...],
              #{non_neg_integer() => true}) -> counts().
deliver(session, Message, Batch, Texts, Dropped) ->
    to_sessions(megaphone_batch:sessions(Batch), contents(Texts), 0, Dropped,
                common(Message, Batch), {0, 0, 0});
deliver(router, Message, Batch, Texts, Dropped) ->
    to_accounts(megaphone_batch:accounts(Batch), contents(Texts), 0, Dropped,
                common(Message, Batch), {0, 0, 0}).

common(Message = #message{id = Broadcast}, Batch) ->
    {Message#message{id = <<Broadcast/binary, $->>}, megaphone_batch:first(Batch)}.

contents([Bodies]) -> [{Body, []} || Body <- Bodies];
contents([Bodies, Subjects]) ->
    lists:zipwith(fun(Body, Subject) -> {Body, [#text{data = copy(Subject)}]} end, Bodies, Subjects).

to_sessions([_ | Sessions], [_ | Contents], Index, Dropped, Common, {Sent, Gone, Lost})
  when is_map_key(Index, Dropped) ->
    to_sessions(Sessions, Contents, Index + 1, Dropped, Common, {Sent, Gone, Lost + 1});
to_sessions([{User, Server, Resource, Pid} | Sessions], [Content | Contents], Index, Dropped,
            Common, {Sent, Gone, Lost}) ->
    Message = message(copy(User), copy(Server), copy(Resource), Content, Index, Common),
    Counts = case ejabberd_c2s:route(Pid, {route, Message}) of
                 true -> {Sent + 1, Gone, Lost};
                 false -> {Sent, Gone + 1, Lost}
             end,
    to_sessions(Sessions, Contents, Index + 1, Dropped, Common, Counts);
to_sessions([], [], _, _, _, Counts) ->
    Counts.

to_accounts([_ | Accounts], [_ | Contents], Index, Dropped, Common, {Sent, Gone, Lost})
  when is_map_key(Index, Dropped) ->
    to_accounts(Accounts, Contents, Index + 1, Dropped, Common, {Sent, Gone, Lost + 1});
to_accounts([{User, Server} | Accounts], [Content | Contents], Index, Dropped, Common,
            {Sent, Gone, Lost}) ->
    ok = ejabberd_router:route(message(copy(User), copy(Server), <<>>, Content, Index, Common)),
    to_accounts(Accounts, Contents, Index + 1, Dropped, Common, {Sent + 1, Gone, Lost});
to_accounts([], [], _, _, _, Counts) ->
    Counts.

%% The parts come from ejabberd's own tables: they are prepared already.
message(User, Server, Resource, {Body, Subject}, Index,
        {Message = #message{id = Prefix, from = From}, First}) ->
    %% Not <<Prefix/binary, ..>>: that makes room to append, 256 bytes off the heap for each message.
    Message#message{id = list_to_binary([Prefix | integer_to_list(First + Index)]),
                    from = from(From, Server),
                    to = #jid{user = User, server = Server, resource = Resource,
                              luser = User, lserver = Server, lresource = Resource},
                    body = [#text{data = copy(Body)}],
                    subject = Subject}.

from(undefined, Server) -> #jid{server = Server, lserver = Server};
from(From, _) -> From.

%% Values are parts of a whole column. A session that sleeps with one in its heap would keep the
%% column; a short copy lives and dies there.
copy(Value) ->
    binary:copy(Value).
