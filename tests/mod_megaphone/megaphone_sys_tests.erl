-module(megaphone_sys_tests).

-include_lib("eunit/include/eunit.hrl").

%% As a server of OTP's own answers.
as_otp_test() ->
    {ok, Answer} = gen:call(kernel_safe_sup, system, get_state, 5000),
    State = sys:get_state(kernel_safe_sup),
    ?assertEqual(case megaphone_sys:wants_ok() of
                     true -> {ok, State};
                     false -> State
                 end, Answer).

leaves_nothing_in_the_mailbox_test() ->
    {messages, Before} = process_info(self(), messages),
    _ = megaphone_sys:wants_ok(),
    ?assertEqual({messages, Before}, process_info(self(), messages)).
