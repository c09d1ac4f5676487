%%% The atoms that Python's processes say by themselves: in exit reasons, in what sys:get_status and
%%% which_children show. Terms of Python's are decoded with [safe], which takes atoms that exist;
%%% they do once this module is loaded. A test compares the list with erlang_port/otp.
-module(megaphone_vocabulary).

-export([atoms/0]).

-spec atoms() -> [atom(), ...].
atoms() ->
    ['$gen_all_state_event', '$gen_call', '$gen_cast', '$gen_event', '$gen_sync_all_state_event',
     '$gen_sync_event', '$gen_timer', 'DOWN', 'EXIT', active, already_present, already_started,
     bad_action_from_state_function, bad_call, bad_cast, bad_combination, bad_continue, bad_event,
     bad_info, bad_reply_action_from_state_function, bad_return, bad_return_from_init,
     bad_return_from_state_function, bad_return_value, bad_start_spec,
     bad_state_enter_action_from_state_function, bad_state_enter_return_from_state_function,
     bad_sync_event, badarg, call, callback_failed, calling_self, cast, change_code, child,
     count_children, data, debug, delete_child, duplicate_child_name, dynamic, enter, error, exit,
     exit_status, failed_to_start_child, gen_fsm, gen_server, gen_statem, get_childspec, get_state,
     get_status, global, header, id, in, info, init, init_state, internal, invalid_auto_shutdown,
     invalid_child_spec, invalid_child_type, invalid_intensity, invalid_period,
     invalid_restart_type, invalid_shutdown, invalid_strategy, kill, killed, local, log,
     messages_in, module, modules, no_statistics, noconnection, nodedown, nodes, nonode@nohost,
     noproc, normal, not_found, not_supported, ok, process, python_error, python_process,
     python_reference, replace_state, restart, restart_child, restarting, resume, rpc, running,
     shutdown, significant, simple_one_for_one, specs, start, start_child, start_spec, state,
     state_timeout, statistics, status, stop, supervisor, supervisor_data, supervisors, suspend,
     suspended, sync_send_all_state_event, sync_send_event, sys, system, terminate,
     terminate_child, timeout, trace, try_again_restart, type, undefined, unknown_debug,
     unknown_system_msg, which_children, workers].
