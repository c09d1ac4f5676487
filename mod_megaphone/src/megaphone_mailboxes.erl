%%% How long the mailboxes are: all processes are looked at, some at a time.
-module(megaphone_mailboxes).

-export([sample/1, registered/1]).

%% Processes in one go, which takes well under a millisecond, and the share of the time that the
%% walk works.
-define(SLICE, 1000).
-define(REST, 99).

%% @doc Of all processes. A million take a minute or two, a second of it work.
-spec sample(none) -> megaphone_sampler:sample(none).
sample(none) ->
    Begin = now_us(),
    Processes = erlang:processes(),
    ok = rest(Begin),
    {Longest, Sum} = walk(Processes, 0, 0),
    #{metrics => #{<<"vm_mailbox_messages_max">> => Longest, <<"vm_mailbox_messages">> => Sum},
      next => none}.

%% @doc Of those that have a name: the ones that everybody waits for are among them.
-spec registered(none) -> megaphone_sampler:sample(none).
registered(none) ->
    Lengths = [{atom_to_binary(Name, utf8), Length}
               || Name <- erlang:registered(), Pid <- [whereis(Name)], is_pid(Pid),
                  {message_queue_len, Length} <- [process_info(Pid, message_queue_len)]],
    #{metrics => #{<<"vm_mailbox_messages_max">> => lists:max([0 | [N || {_, N} <- Lengths]])},
      detail => #{<<"detailed_mailbox_messages">> => Lengths},
      next => none}.

walk(Processes, Longest, Sum) ->
    Begin = now_us(),
    case slice(?SLICE, Processes, Longest, Sum) of
        {[], NewLongest, NewSum} ->
            {NewLongest, NewSum};
        {Rest, NewLongest, NewSum} ->
            ok = rest(Begin),
            walk(Rest, NewLongest, NewSum)
    end.

slice(Left, [Pid | Rest], Longest, Sum) when Left > 0 ->
    case process_info(Pid, message_queue_len) of
        {message_queue_len, Length} -> slice(Left - 1, Rest, max(Longest, Length), Sum + Length);
        undefined -> slice(Left - 1, Rest, Longest, Sum)
    end;
slice(_Left, Rest, Longest, Sum) ->
    {Rest, Longest, Sum}.

rest(Begin) ->
    timer:sleep(?REST * (now_us() - Begin) div 1000).

now_us() ->
    erlang:monotonic_time(microsecond).
