%%% When the port program is started again after it ended. No process, no clock of its own:
%%% times are monotonic milliseconds that the caller gives.
-module(megaphone_restarts).

-export([new/1, options/2, failed/3, connected/1, is_down/1]).
-export_type([restarts/0]).

%% Milliseconds. The first restart is quick; the wait doubles up to the last.
-define(FIRST_WAIT, 100).
-define(LAST_WAIT, 5000).
%% Milliseconds of connection after which a life counts as a good one.
-define(GOOD_LIFE, 10000).

-record(restarts, {intensity :: pos_integer(),
                   period :: pos_integer(),
                   retry :: pos_integer(),
                   failures = [] :: [integer()],
                   wait = ?FIRST_WAIT :: pos_integer(),
                   down = false :: boolean()}).

-opaque restarts() :: #restarts{}.
-type options() :: #{restart_intensity := pos_integer(), restart_period := pos_integer(),
                     retry_interval := pos_integer(), atom() => term()}.

-spec new(options()) -> restarts().
new(#{restart_intensity := Intensity, restart_period := Period, retry_interval := Retry}) ->
    #restarts{intensity = Intensity, period = Period, retry = Retry}.

-spec options(options(), restarts()) -> restarts().
options(Options, #restarts{failures = Failures, wait = Wait, down = Down}) ->
    (new(Options))#restarts{failures = Failures, wait = Wait, down = Down}.

%% @doc A life ended at Now, after it had been connected for Connected milliseconds. `down` says
%% that this was one failure too many; `still_down`, that a try of a program that is down failed.
-spec failed(integer(), non_neg_integer(), restarts()) ->
          {backing_off | down | still_down, WaitMs :: pos_integer(), restarts()}.
failed(_Now, _Connected, Restarts = #restarts{down = true, retry = Retry}) ->
    {still_down, Retry, Restarts};
failed(Now, Connected, Restarts) when Connected >= ?GOOD_LIFE ->
    failed(Now, 0, Restarts#restarts{failures = [], wait = ?FIRST_WAIT});
failed(Now, _Connected, Restarts = #restarts{intensity = Intensity, period = Period, retry = Retry,
                                             failures = Before, wait = Wait}) ->
    Failures = [Now | [Time || Time <- Before, Now - Time < Period]],
    case length(Failures) >= Intensity of
        true ->
            {down, Retry, Restarts#restarts{failures = [], wait = ?FIRST_WAIT, down = true}};
        false ->
            {backing_off, Wait, Restarts#restarts{failures = Failures,
                                                  wait = min(2 * Wait, ?LAST_WAIT)}}
    end.

%% @doc The program said hello; `back` if it had been down.
-spec connected(restarts()) -> {connected | back, restarts()}.
connected(Restarts = #restarts{down = true}) ->
    {back, Restarts#restarts{down = false}};
connected(Restarts) ->
    {connected, Restarts}.

-spec is_down(restarts()) -> boolean().
is_down(#restarts{down = Down}) -> Down.
