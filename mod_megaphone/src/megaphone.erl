%%% Calls of Python processes, for Erlang code that wants its time limit to be known there.
%%%
%%% gen_server:call/3 works as well, but tells nobody how long it waits: what it has given up waiting
%%% for may still be worked on.
-module(megaphone).

-export([call/2, call/3, cast/2]).
-export_type([name/0]).

-define(TIMEOUT, 5000).

-type name() :: pid() | atom() | {global, term()} | {via, module(), term()} | {atom(), node()}.

%% @doc As call/3, for five seconds.
-spec call(name(), term()) -> term().
call(Name, Request) ->
    call(Name, Request, ?TIMEOUT).

%% @doc As gen_server:call/3, and exits as it does. Python drops the call once its time is over.
-spec call(name(), term(), timeout()) -> term().
call(Name, Request, Timeout) ->
    %% Both, because the clock is the node's: a proxy of another node looks at the time only.
    Timed = {Request, deadline(Timeout), Timeout},
    try gen:call(Name, '$megaphone_call', Timed, Timeout) of
        {ok, Reply} -> Reply
    catch
        exit:Reason -> exit({Reason, {?MODULE, call, [Name, Request, Timeout]}})
    end.

deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

%% @doc As gen_server:cast/2.
-spec cast(name(), term()) -> ok.
cast(Name, Message) ->
    gen_server:cast(Name, Message).
