%%% How much of their time the schedulers have worked since the sample before.
-module(megaphone_schedulers).

-export([enable/0, sample/1]).
-export_type([times/0]).

%% By scheduler: native time that it worked, and that it could have.
-type times() :: [{pos_integer(), non_neg_integer(), non_neg_integer()}].

%% @doc Has the VM measure; it does so for as long as the calling process lives.
-spec enable() -> ok.
enable() ->
    _ = erlang:system_flag(scheduler_wall_time, true),
    ok.

-spec sample(none | times()) -> megaphone_sampler:sample(none | times()).
sample(Before) ->
    case erlang:statistics(scheduler_wall_time_all) of
        undefined -> #{metrics => #{}, next => none};
        Now when Before =:= none -> #{metrics => #{}, next => Now};
        Now -> #{metrics => metrics(lists:keysort(1, Before), lists:keysort(1, Now)), next => Now}
    end.

%% Schedulers that are not online have no part in it.
metrics(Before, Now) ->
    Normal = erlang:system_info(schedulers),
    Dirty = Normal + erlang:system_info(dirty_cpu_schedulers),
    Kinds = [{<<"normal">>, 1, erlang:system_info(schedulers_online)},
             {<<"dirty_cpu">>, Normal + 1, Normal + erlang:system_info(dirty_cpu_schedulers_online)},
             {<<"dirty_io">>, Dirty + 1, Dirty + erlang:system_info(dirty_io_schedulers)}],
    Spent = [{Id, Worked1 - Worked0, Total1 - Total0}
             || {{Id, Worked0, Total0}, {Id, Worked1, Total1}} <- lists:zip(Before, Now)],
    #{<<"vm_scheduler_utilization_ratio">> =>
          [{Kind, ratio([{W, T} || {Id, W, T} <- Spent, Id >= First, Id =< Last])}
           || {Kind, First, Last} <- Kinds]}.

ratio(Spent) ->
    {Worked, Total} = lists:unzip(Spent),
    case lists:sum(Total) of
        0 -> 0.0;
        Sum -> min(1.0, lists:sum(Worked) / Sum)
    end.
