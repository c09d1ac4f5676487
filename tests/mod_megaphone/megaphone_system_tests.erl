-module(megaphone_system_tests).

-include_lib("eunit/include/eunit.hrl").

live_test() ->
    #{<<"vm_resident_memory_bytes">> := Resident,
      <<"vm_file_descriptors">> := Descriptors,
      <<"vm_file_descriptors_limit">> := Limit,
      <<"system_memory_bytes">> := Total,
      <<"system_memory_available_bytes">> := Available,
      <<"system_cpus">> := Cpus} = megaphone_system:metrics(),
    ?assert(Resident > 10_000_000),
    ?assert(Descriptors > 3),
    ?assert(Limit >= Descriptors),
    ?assert(Total > Available),
    ?assert(Available > 0),
    ?assertEqual(erlang:system_info(logical_processors_available), Cpus).

descriptors_move_test() ->
    Count = fun() -> maps:get(<<"vm_file_descriptors">>, megaphone_system:metrics()) end,
    Before = Count(),
    Sockets = [begin {ok, Socket} = gen_udp:open(0), Socket end || _ <- lists:seq(1, 50)],
    ?assertEqual(Before + 50, Count()),
    [gen_udp:close(Socket) || Socket <- Sockets],
    ?assertEqual(Before, Count()).

resident_memory_moves_test() ->
    Count = fun() -> maps:get(<<"vm_resident_memory_bytes">>, megaphone_system:metrics()) end,
    Before = Count(),
    Kept = binary:copy(<<1>>, 50_000_000),
    ?assert(Count() > Before + 40_000_000),
    ?assertEqual(50_000_000, byte_size(Kept)).

what_the_files_say_test_() ->
    [?_assertEqual(2048, megaphone_system:resident(<<"VmSize:\t  9 kB\nVmRSS:\t       2 kB\n">>)),
     ?_assertEqual(undefined, megaphone_system:resident(<<"Name:\tbeam.smp\n">>)),
     ?_assertEqual(1024, megaphone_system:descriptor_limit(
                           <<"Max open files            1024                 524288  files\n">>)),
     ?_assertEqual(undefined, megaphone_system:descriptor_limit(
                                <<"Max open files            unlimited  unlimited  files\n">>)),
     ?_assertEqual({3072, 1024}, megaphone_system:memory(
                                   <<"MemTotal:  3 kB\nMemFree: 9 kB\nMemAvailable:  1 kB\n">>)),
     ?_assertEqual(undefined, megaphone_system:memory(<<"MemTotal:  3 kB\n">>)),
     ?_assertEqual("/system.slice/ejabberd.service",
                   megaphone_system:cgroup(<<"1:cpu:/x\n0::/system.slice/ejabberd.service\n">>)),
     ?_assertEqual(undefined, megaphone_system:cgroup(<<"4:memory:/docker/1\n">>))].

control_group_test_() ->
    Stat = <<"anon 5\ninactive_file 200\nactive_file 7\n">>,
    [?_assertEqual({1000, 300}, megaphone_system:cgroup_memory({<<"1000\n">>, <<"900\n">>}, Stat)),
     ?_assertEqual({1000, 0}, megaphone_system:cgroup_memory({<<"1000\n">>, <<"1900\n">>}, Stat)),
     ?_assertEqual(none, megaphone_system:cgroup_memory({<<"max\n">>, <<"900\n">>}, Stat)),
     ?_assertEqual(none, megaphone_system:cgroup_memory({<<"1000\n">>, <<"900\n">>}, <<"anon 5\n">>)),
     ?_assertEqual(none, megaphone_system:cgroup_memory({undefined, undefined}, undefined))].
