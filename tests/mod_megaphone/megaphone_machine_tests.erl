-module(megaphone_machine_tests).

-include_lib("eunit/include/eunit.hrl").

-define(MIB, 1048576).

%% The machine that this runs on.
sample_test() ->
    #{metrics := Metrics} = megaphone_machine:sample(none),
    #{<<"vm_file_descriptors">> := Open, <<"vm_file_descriptors_limit">> := Limit,
      <<"system_memory_bytes">> := Total, <<"system_memory_available_bytes">> := Available,
      <<"system_cpus">> := Cpus} = Metrics,
    ?assert(Open > 3 andalso Open =< Limit),
    ?assert(Available > 0 andalso Available =< Total),
    ?assert(Cpus > 0 andalso Cpus =< erlang:system_info(logical_processors)).

descriptors_are_counted_test() ->
    Count = fun() -> proplists:get_value(<<"vm_file_descriptors">>, megaphone_machine:descriptors("/proc")) end,
    Before = Count(),
    Files = [begin {ok, File} = file:open("/dev/null", [read, raw]), File end || _ <- lists:seq(1, 50)],
    ?assertEqual(Before + 50, Count()),
    [file:close(File) || File <- Files].

%% A kernel that does not say how many there are, as of this directory: they are listed.
older_kernel_test() ->
    write("older/self/limits", "Limit                     Soft Limit           Hard Limit           Units\n"
          "Max open files            1024                 4096                 files\n"),
    ok = file:make_symlink("/proc/self/fdinfo", "older/self/fd"),
    [{_, Open}, {_, 1024}] = megaphone_machine:descriptors("older"),
    [{_, Counted}, _] = megaphone_machine:descriptors("/proc"),
    ?assert(abs(Open - Counted) =< 1).

memory_of_the_machine_test() ->
    meminfo("bare"),
    ?assertEqual([{<<"system_memory_bytes">>, 1000 * ?MIB},
                  {<<"system_memory_available_bytes">>, 600 * ?MIB}],
                 megaphone_machine:memory("bare", "no/cgroup")),
    ?assertEqual([], megaphone_machine:memory("nothing", "no/cgroup")).

%% The narrowest of the groups decides, of each figure by itself.
memory_of_a_group_test() ->
    meminfo("grouped"),
    write("grouped/self/cgroup", "0::/system.slice/ejabberd.service\n"),
    group("cg2/system.slice", 500, 450, 0),
    group("cg2/system.slice/ejabberd.service", 300, 200, 50),
    ?assertEqual([{<<"system_memory_bytes">>, 300 * ?MIB},
                  {<<"system_memory_available_bytes">>, 50 * ?MIB}],
                 megaphone_machine:memory("grouped", "cg2")).

cpus_of_a_group_test() ->
    write("shared/self/cgroup", "0::/a/b\n"),
    write("cg3/a/cpu.max", "50000 100000\n"),
    write("cg3/a/b/cpu.max", "max 100000\n"),
    ?assertEqual(0.5, megaphone_machine:cpus("shared", "cg3")).

meminfo(Proc) ->
    write([Proc, "/meminfo"], "MemTotal:        1024000 kB\nMemFree:  1 kB\nMemAvailable:     614400 kB\n").

group(Group, Max, Current, Inactive) ->
    write([Group, "/memory.max"], [integer_to_list(Max * ?MIB), $\n]),
    write([Group, "/memory.current"], [integer_to_list(Current * ?MIB), $\n]),
    write([Group, "/memory.stat"], ["anon 5\ninactive_file ", integer_to_list(Inactive * ?MIB), "\n"]).

write(Path, Text) ->
    ok = filelib:ensure_dir(lists:flatten(Path)),
    ok = file:write_file(lists:flatten(Path), Text).
