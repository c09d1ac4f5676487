%%% Addresses from which the secret was guessed wrong too often. No process, no clock of its own:
%%% times are monotonic milliseconds that the caller gives.
-module(megaphone_lockout).

-export([new/0, failed/3, locked/3]).
-export_type([lockout/0, address/0]).

%% So many wrong proofs within a minute lock an address out for a minute.
-define(TRIES, 5).
-define(PERIOD, 60000).
%% Addresses that are remembered; the one that failed longest ago is forgotten for another.
-define(MAX, 1024).

-type address() :: inet:ip_address() | unix.
-opaque lockout() :: #{address() => [integer()]}.

-spec new() -> lockout().
new() ->
    #{}.

%% @doc A proof from this address was wrong; `locked` if that was one too many.
-spec failed(integer(), address(), lockout()) -> {failed | locked, lockout()}.
failed(Now, Address, Lockout) ->
    Tries = lists:sublist([Now | recent(Now, Address, Lockout)], ?TRIES),
    Next = room(Address, Lockout),
    case length(Tries) of
        ?TRIES -> {locked, Next#{Address => Tries}};
        _ -> {failed, Next#{Address => Tries}}
    end.

%% @doc For how many more milliseconds an address is locked out.
-spec locked(integer(), address(), lockout()) -> false | pos_integer().
locked(Now, Address, Lockout) ->
    case Lockout of
        %% All of them were within a minute when the last one was: that one counts.
        #{Address := Tries = [Last | _]} when length(Tries) >= ?TRIES, Now - Last < ?PERIOD ->
            Last + ?PERIOD - Now;
        _ ->
            false
    end.

recent(Now, Address, Lockout) ->
    [Time || Time <- maps:get(Address, Lockout, []), Now - Time < ?PERIOD].

room(Address, Lockout) when map_size(Lockout) < ?MAX; is_map_key(Address, Lockout) ->
    Lockout;
room(_Address, Lockout) ->
    {_, Oldest} = lists:min([{hd(Tries), Known} || {Known, Tries} <- maps:to_list(Lockout)]),
    maps:remove(Oldest, Lockout).
