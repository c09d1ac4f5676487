-module(megaphone_cgroup_tests).

-include_lib("eunit/include/eunit.hrl").

write(Path, Text) ->
    ok = filelib:ensure_dir(Path),
    ok = file:write_file(Path, Text).

none_test() ->
    ?assertEqual([], megaphone_cgroup:memory("nowhere", "nowhere")),
    ?assertEqual([], megaphone_cgroup:cpus("nowhere", "nowhere")).

version_2_test() ->
    write("v2/self/cgroup", "0::/a:b/c\n"),
    write("v2cg/a:b/memory.max", "max\n"),
    write("v2cg/a:b/memory.current", "100\n"),
    write("v2cg/a:b/c/memory.max", "1000\n"),
    write("v2cg/a:b/c/memory.current", "400\n"),
    ?assertEqual([{1000, 400}], megaphone_cgroup:memory("v2", "v2cg")),
    write("v2cg/a:b/c/memory.stat", "file 300\ninactive_file 150\n"),
    ?assertEqual([{1000, 250}], megaphone_cgroup:memory("v2", "v2cg")),
    write("v2cg/a:b/c/cpu.max", "150000 100000\n"),
    ?assertEqual([1.5], megaphone_cgroup:cpus("v2", "v2cg")).

%% In a container the root that is mounted is the container's own group.
mounted_as_the_root_test() ->
    write("c/self/cgroup", "0::/\n"),
    write("ccg/memory.max", "1000\n"),
    write("ccg/memory.current", "1\n"),
    ?assertEqual([{1000, 1}], megaphone_cgroup:memory("c", "ccg")).

version_1_test() ->
    write("v1/self/cgroup", "4:memory:/docker/1f\n3:cpu,cpuacct:/docker/1f\n1:name=systemd:/\n0::/\n"),
    %% No limit, as version 1 says it.
    write("v1cg/memory/memory.limit_in_bytes", "9223372036854771712\n"),
    write("v1cg/memory/memory.usage_in_bytes", "5000\n"),
    write("v1cg/memory/docker/1f/memory.limit_in_bytes", "2000\n"),
    write("v1cg/memory/docker/1f/memory.usage_in_bytes", "900\n"),
    write("v1cg/memory/docker/1f/memory.stat", "inactive_file 1\ntotal_inactive_file 100\n"),
    write("v1cg/cpu/docker/1f/cpu.cfs_quota_us", "200000\n"),
    write("v1cg/cpu/docker/1f/cpu.cfs_period_us", "100000\n"),
    write("v1cg/cpu/cpu.cfs_quota_us", "-1\n"),
    ?assertEqual([{2000, 800}], megaphone_cgroup:memory("v1", "v1cg")),
    ?assertEqual([2.0], megaphone_cgroup:cpus("v1", "v1cg")).

%% What a file says that is not as it should be counts for nothing.
nonsense_test() ->
    write("x/self/cgroup", "\n0:\n0::/../..\nmemory\n4:memory\n"),
    write("xcg/memory.max", "lots\n"),
    write("xcg/memory.current", ""),
    write("xcg/cpu.max", "1"),
    ?assertEqual([], megaphone_cgroup:memory("x", "xcg")),
    ?assertEqual([], megaphone_cgroup:cpus("x", "xcg")).
