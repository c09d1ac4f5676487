%%% Counts Mnesia's warnings that it is overloaded. Mnesia says them to subscribers only.
-module(megaphone_overloads).

-behaviour(gen_server).

-export([start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

%% Milliseconds after which Mnesia is looked for again.
-define(RETRY, 1000).

-spec start_link() -> {ok, pid()} | {error, term()} | ignore.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @private
-spec init([]) -> {ok, none | reference()}.
init([]) ->
    %% Mnesia links to its subscribers.
    _ = process_flag(trap_exit, true),
    {ok, subscribe()}.

%% @private
-spec handle_call(term(), gen_server:from(), none | reference()) ->
          {reply, {error, badarg}, none | reference()}.
handle_call(_Request, _From, State) ->
    {reply, {error, badarg}, State}.

%% @private
-spec handle_cast(term(), none | reference()) -> {noreply, none | reference()}.
handle_cast(_, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), none | reference()) -> {noreply, none | reference()}.
handle_info({mnesia_system_event, {mnesia_overload, _}}, State) ->
    ok = megaphone_counts:add(mnesia_overloads),
    {noreply, State};
handle_info({'DOWN', Monitor, process, _, _}, Monitor) ->
    {noreply, later()};
handle_info(subscribe, none) ->
    {noreply, subscribe()};
handle_info(_, State) ->
    {noreply, State}.

%% The monitor of the process that the events come from.
subscribe() ->
    case whereis(mnesia_subscr) of
        undefined ->
            later();
        Source ->
            try mnesia:subscribe(system) of
                {ok, _} -> monitor(process, Source);
                {error, _} -> later()
            catch
                exit:_ -> later()
            end
    end.

later() ->
    _ = erlang:send_after(?RETRY, self(), subscribe),
    none.
