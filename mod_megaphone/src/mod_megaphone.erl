%%% Megaphone's end in ejabberd: options, start and stop for each vhost. The tree behind it is
%%% one for the node, whatever the number of vhosts.
-module(mod_megaphone).

-behaviour(gen_mod).

%% gen_mod
-export([start/2, stop/1, reload/3, depends/2, mod_options/1, mod_opt_type/1, mod_doc/0]).
%% The package
-export([option/1, hosts/0, version/0, loaded_versions/0, stale_modules/0]).

-include("logger.hrl").
-include("megaphone.hrl").

%% The node's options while the tree runs.
-define(OPTIONS, {?MODULE, options}).
%% Every module of the package but this one, which ejabberd's ext_mod loads and purges itself,
%% has a name that begins so, or is `megaphone` itself, and stands in the same directory: others may
%% use such names, too.
-define(PREFIX, "megaphone_").

-type options() :: #{atom() => term()}.

%% @doc Starts the tree with the first vhost. Never fails: at boot, a module that does ends the
%% node.
-spec start(binary(), gen_mod:opts()) -> ok.
start(Host, Opts) ->
    case whereis(megaphone_keeper) of
        undefined -> start_node(Opts);
        _ -> compare(Host, Opts)
    end,
    add_hooks(Host).

%% @doc Stops the tree with the last vhost.
-spec stop(binary()) -> ok.
stop(Host) ->
    ok = hooks(Host, remove_hooks),
    %% During stop/1 the vhost still counts as loaded; `elsewhere` leaves it out.
    case gen_mod:is_loaded_elsewhere(Host, ?MODULE) of
        true -> ok;
        false -> stop_node()
    end.

%% @doc Takes other options, once every vhost's configuration has them.
-spec reload(binary(), gen_mod:opts(), gen_mod:opts()) -> ok.
reload(Host, NewOpts, _OldOpts) ->
    %% ejabberd reloads one vhost after the other: the configuration is ahead of gen_mod's table.
    Configured = lists:usort([Opts || Vhost <- ejabberd_option:hosts(),
                                      {Module, Opts, _} <- ejabberd_option:modules(Vhost),
                                      Module =:= ?MODULE]),
    case Configured of
        [_, _ | _] -> compare(Host, NewOpts);
        _ -> apply_options(NewOpts)
    end.

-spec depends(binary(), gen_mod:opts()) -> [{module(), hard | soft}].
depends(_Host, _Opts) ->
    [].

%% @doc An option of the node while the module runs; its default otherwise.
-spec option(atom()) -> term().
option(Name) ->
    case persistent_term:get(?OPTIONS, undefined) of
        undefined -> maps:get(Name, effective(maps:from_list(mod_options(<<>>))));
        Options -> maps:get(Name, Options)
    end.

%% @doc The vhosts on which the module runs.
-spec hosts() -> [binary()].
hosts() ->
    [Host || Host <- ejabberd_option:hosts(), gen_mod:is_loaded(Host, ?MODULE)].

-spec version() -> binary().
version() ->
    ?MEGAPHONE_VERSION.

%% @doc The code that runs, module by module: the digest of each module that is loaded.
-spec loaded_versions() -> [{module(), Digest :: binary()}].
loaded_versions() ->
    [{Module, hex(Module:module_info(md5))}
     || Module <- [?MODULE | loaded_siblings()]].

%% @doc Modules whose loaded code is not what is on disk: none, unless an upgrade went wrong.
-spec stale_modules() -> [module()].
stale_modules() ->
    [Module || Module <- [?MODULE | loaded_siblings()], is_stale(Module)].

start_node(Opts) ->
    Options = effective(Opts),
    ok = load_siblings(),
    ok = megaphone_names:start(),
    ok = megaphone_counts:start(),
    persistent_term:put(?OPTIONS, Options),
    case supervisor:start_child(ejabberd_gen_mod_sup, megaphone_keeper:child_spec(Options)) of
        {ok, _} ->
            ejabberd_commands:register_commands(?MODULE, megaphone_commands:get_commands_spec()),
            ok;
        {error, Reason} ->
            _ = persistent_term:erase(?OPTIONS),
            ?ERROR_MSG("megaphone does not run on this node: ~0P", [Reason, 20])
    end.

stop_node() ->
    try ejabberd_commands:unregister_commands(megaphone_commands:get_commands_spec())
    catch
        %% Nothing of the package may keep the tree from being stopped.
        Class:Reason -> ?WARNING_MSG("megaphone: its commands stay registered: ~p: ~0P",
                                     [Class, Reason, 12])
    end,
    _ = supervisor:terminate_child(ejabberd_gen_mod_sup, megaphone_keeper),
    _ = supervisor:delete_child(ejabberd_gen_mod_sup, megaphone_keeper),
    _ = persistent_term:erase(?OPTIONS),
    _ = persistent_term:erase({megaphone_keeper, started}),
    ok = megaphone_names:stop(),
    ok = megaphone_counts:stop(),
    %% ext_mod purges this module only: left loaded, the others would outlive an upgrade.
    lists:foreach(fun unload/1, loaded_siblings()).

%% Without a tree there is nobody to tell what is counted.
add_hooks(Host) ->
    case whereis(megaphone_keeper) of
        undefined ->
            ok;
        _ ->
            ok = hooks(Host, add_hooks),
            %% Who is there already.
            megaphone_sampler:soon(sessions)
    end.

%% A server of ejabberd's that does not answer is no reason to fail.
hooks(Host, Function) ->
    lists:foreach(fun(Module) ->
                          try Module:Function(Host)
                          catch
                              exit:Reason ->
                                  ?ERROR_MSG("megaphone: ~ts of ~ts failed for ~ts: ~0P",
                                             [Function, Module, Host, Reason, 12])
                          end
                  end, [megaphone_stanzas, megaphone_sessions]).

apply_options(Opts) ->
    Options = effective(Opts),
    persistent_term:put(?OPTIONS, Options),
    case megaphone_keeper:reload(Options) of
        ok -> ok;
        {error, Reason} -> ?ERROR_MSG("megaphone: its options were not reloaded: ~ts", [Reason])
    end.

compare(Host, Opts) ->
    Options = effective(Opts),
    Running = persistent_term:get(?OPTIONS, Options),
    case [Name || {Name, Value} <- lists:sort(maps:to_list(Options)),
                  maps:get(Name, Running, undefined) =/= Value] of
        [] ->
            ok;
        Names ->
            ?ERROR_MSG("megaphone: the options of mod_megaphone belong to the node, and those of "
                       "vhost ~ts differ from those in use: ~0p. They are ignored: make them the "
                       "same for every vhost", [Host, Names])
    end.

%% The options that the tree runs with: what contradicts another option gives way, with a warning.
-spec effective(gen_mod:opts()) -> options().
effective(Opts = #{max_frame := MaxFrame, port_window := Window,
                   heartbeat_interval := Interval, heartbeat_timeout := Timeout}) ->
    Opts#{port_window := at_least(port_window, 2 * MaxFrame, "twice max_frame", Window),
          heartbeat_timeout := at_least(heartbeat_timeout, 2 * Interval,
                                        "twice heartbeat_interval", Timeout)}.

at_least(_Name, Least, _Why, Value) when Value >= Least ->
    Value;
at_least(Name, Least, Why, Value) ->
    ?WARNING_MSG("megaphone: option ~ts is ~b and must be at least ~ts; ~b is used",
                 [Name, Value, Why, Least]),
    Least.

%% In embedded mode nothing is loaded on demand, and after an upgrade from a version that did not
%% unload a module its old code would stay.
load_siblings() ->
    lists:foreach(fun(Module) ->
                          case code:is_loaded(Module) =:= false orelse is_stale(Module) of
                              true -> load(Module);
                              false -> ok
                          end
                  end, siblings_on_disk()).

%% The package's own directory names the modules: no list to keep, and the version that is
%% installed now decides.
siblings_on_disk() ->
    [list_to_atom(Name)
     || Beam <- filelib:wildcard(filename:join(directory(), "megaphone*.beam")),
        Name <- [filename:basename(Beam, ".beam")], is_sibling(Name)].

%% Those of an older version that the installed one does not have any more, too.
loaded_siblings() ->
    Directory = directory(),
    lists:sort([Module || {Module, Path} <- code:all_loaded(), is_sibling(atom_to_list(Module)),
                          is_list(Path), filename:dirname(Path) =:= Directory]).

is_sibling(Name) -> Name =:= "megaphone" orelse lists:prefix(?PREFIX, Name).

%% Where this module was loaded from; its file may be gone by now.
directory() ->
    {file, Path} = code:is_loaded(?MODULE),
    filename:dirname(Path).

load(Module) ->
    _ = code:purge(Module),
    case code:load_file(Module) of
        {module, Module} -> ok;
        {error, Reason} -> ?ERROR_MSG("megaphone: ~ts cannot be loaded: ~0p", [Module, Reason])
    end.

%% Whoever still runs a module's code keeps it: a purge by force would kill that process.
unload(Module) ->
    _ = code:soft_purge(Module),
    _ = code:delete(Module),
    _ = code:soft_purge(Module),
    ok.

is_stale(Module) ->
    case {code:is_loaded(Module), code:where_is_file(atom_to_list(Module) ++ ".beam")} of
        {{file, _}, Path} when is_list(Path) ->
            case beam_lib:md5(Path) of
                {ok, {Module, Digest}} -> Digest =/= Module:module_info(md5);
                {error, beam_lib, _} -> false
            end;
        _ ->
            false
    end.

hex(Digest) ->
    << <<(integer_to_binary(Nibble, 16))/binary>> || <<Nibble:4>> <= Digest >>.

%% Options.

-spec mod_opt_type(atom()) -> econf:validator().
mod_opt_type(python) ->
    econf:non_empty(econf:binary());
mod_opt_type(config_file) ->
    econf:either(undefined, econf:path());
mod_opt_type(sidecar) ->
    %% What contradicts itself is told by megaphone_endpoint: it must not keep the node from booting.
    econf:either(undefined,
                 econf:options(#{socket => econf:non_empty(econf:binary()),
                                 ip => econf:ip(), port => econf:port(),
                                 secret_file => econf:non_empty(econf:binary()),
                                 tls => econf:bool(),
                                 certfile => econf:non_empty(econf:binary()),
                                 cafile => econf:non_empty(econf:binary()),
                                 allow_plaintext => econf:bool()},
                               [unique, {required, [secret_file]}, {return, map}]));
mod_opt_type(heartbeat_interval) ->
    econf:and_then(econf:timeout(second), econf:int(100, 60000));
mod_opt_type(heartbeat_timeout) ->
    econf:and_then(econf:timeout(second), econf:int(200, 600000));
mod_opt_type(hello_timeout) ->
    econf:and_then(econf:timeout(second), econf:int(100, 600000));
mod_opt_type(max_frame) ->
    econf:int(65536, 67108864);
mod_opt_type(port_window) ->
    econf:int(131072, 268435456);
mod_opt_type(restart_intensity) ->
    econf:pos_int();
mod_opt_type(restart_period) ->
    econf:timeout(second);
mod_opt_type(retry_interval) ->
    econf:timeout(second);
mod_opt_type(pipeline_heartbeat_interval) ->
    econf:either(infinity, econf:and_then(econf:timeout(second), econf:int(1000, 3600000)));
mod_opt_type(sample_interval) ->
    econf:and_then(econf:timeout(second), econf:int(1000, 3600000));
mod_opt_type(reconciliation_interval) ->
    econf:and_then(econf:timeout(second), econf:int(1000, 3600000));
mod_opt_type(batch_size) ->
    econf:int(1, 10000);
mod_opt_type(batches_in_flight) ->
    econf:int(1, 64);
mod_opt_type(max_broadcasts) ->
    econf:int(1, 100);
mod_opt_type(max_processes) ->
    econf:int(1, 100000);
mod_opt_type(max_calls) ->
    econf:int(1, 1000000);
mod_opt_type(allowed_names) ->
    econf:either(free, econf:list(econf:non_empty(econf:binary()), [unique]));
mod_opt_type(allowed_processes) ->
    econf:either(all, econf:list(econf:atom(), [unique]));
mod_opt_type(allowed_nodes) ->
    econf:either(all, econf:list(econf:atom(), [unique]));
mod_opt_type(allowed_functions) ->
    econf:list(econf:binary("^[^:]+:[^:]+/[0-9]+$"), [unique]).

-spec mod_options(binary()) -> [{atom(), term()}].
mod_options(_Host) ->
    [{python, <<"python3">>},
     {config_file, undefined},
     {sidecar, undefined},
     {heartbeat_interval, timer:seconds(1)},
     {heartbeat_timeout, timer:seconds(5)},
     {hello_timeout, timer:seconds(10)},
     {max_frame, 4194304},
     {port_window, 8388608},
     {restart_intensity, 5},
     {restart_period, timer:seconds(60)},
     {retry_interval, timer:seconds(60)},
     {batch_size, 1000},
     {batches_in_flight, 4},
     {max_broadcasts, 4},
     {max_processes, 10000},
     {max_calls, 10000},
     {allowed_names, free},
     {allowed_processes, []},
     {allowed_nodes, []},
     {allowed_functions, []},
     {pipeline_heartbeat_interval, timer:seconds(5)},
     {sample_interval, timer:seconds(5)},
     {reconciliation_interval, timer:seconds(60)}].

-spec mod_doc() -> #{desc := [binary()],
                     opts := [{atom(), #{value := binary(), desc := binary()}}],
                     example := [string()]}.
mod_doc() ->
    #{desc =>
          [<<"Attaches Megaphone, a Python port program, to the node: personalised broadcasts to "
             "everybody online, formatted outside of the node.">>, <<"">>,
           <<"There is one port program for each node, whatever the number of vhosts: every "
             "option belongs to the node and must be the same for each vhost. If the program does "
             "not stay up, ejabberd goes on as if the module were not there, and the module tries "
             "again later.">>],
      opts =>
          [{python,
            #{value => <<"Path">>,
              desc => <<"The Python in which Megaphone is installed; a name without a slash is "
                        "looked for in ejabberd's 'PATH'. ejabberd's user must be able to read "
                        "and run it. The default value is 'python3'.">>}},
           {config_file,
            #{value => <<"Path">>,
              desc => <<"Megaphone's own configuration file, given to the port program as "
                        "'MEGAPHONE_CONFIG'. Not set by default.">>}},
           {sidecar,
            #{value => <<"Options">>,
              desc => <<"Where the program runs by itself, in another container or as a service of its "
                        "own: the node starts none, and listens for it at 'socket', the path of a Unix "
                        "socket, or at 'ip' (default '127.0.0.1') and 'port'. 'secret_file' holds what "
                        "both know, 32 bytes at least. Beyond loopback it takes 'tls: true', with "
                        "'certfile' (default: one of ejabberd's 'certfiles') and, if sidecars are to "
                        "have certificates, too, 'cafile'; or 'allow_plaintext: true'. Not set by "
                        "default.">>}},
           {heartbeat_interval,
            #{value => <<"timeout()">>,
              desc => <<"How often the node and the program tell each other that they live. From "
                        "100 milliseconds to 1 minute; the default value is '1' second.">>}},
           {heartbeat_timeout,
            #{value => <<"timeout()">>,
              desc => <<"A program that is silent for so long is killed with its process group "
                        "and started again. At least twice 'heartbeat_interval'. The default "
                        "value is '5' seconds.">>}},
           {hello_timeout,
            #{value => <<"timeout()">>,
              desc => <<"How long the program may take to start. The default value is '10' "
                        "seconds.">>}},
           {max_frame,
            #{value => <<"65536..67108864">>,
              desc => <<"The longest frame, in bytes, that the node accepts from the program. The "
                        "default value is '4194304'.">>}},
           {port_window,
            #{value => <<"131072..268435456">>,
              desc => <<"The credit that the node grants: how many bytes the program may send "
                        "before the node has handed the first of them on. A program that sends "
                        "more is killed. At least twice 'max_frame'. The default value is "
                        "'8388608'.">>}},
           {restart_intensity,
            #{value => <<"pos_integer()">>,
              desc => <<"After so many lives of the program that ended within 'restart_period' it "
                        "counts as down; a life that was connected for 10 seconds starts the "
                        "count anew. The default value is '5'.">>}},
           {restart_period,
            #{value => <<"timeout()">>,
              desc => <<"See 'restart_intensity'. The default value is '60' seconds.">>}},
           {retry_interval,
            #{value => <<"timeout()">>,
              desc => <<"How often a program that is down is tried again. The default value is "
                        "'60' seconds.">>}},
           {batch_size,
            #{value => <<"1..10000">>,
              desc => <<"How many recipients are formatted together. The default value is "
                        "'1000'.">>}},
           {batches_in_flight,
            #{value => <<"1..64">>,
              desc => <<"How many batches of one broadcast are with the program at once. The "
                        "default value is '4'.">>}},
           {max_broadcasts,
            #{value => <<"1..100">>,
              desc => <<"How many broadcasts may run at once. The default value is '4'.">>}},
           {max_processes,
            #{value => <<"1..100000">>,
              desc => <<"How many Python processes may be reached from Erlang at once. The default "
                        "value is '10000'.">>}},
           {max_calls,
            #{value => <<"1..1000000">>,
              desc => <<"How many calls of one Python process may wait for an answer. Those beyond "
                        "exit with 'overload'. The default value is '10000'.">>}},
           {allowed_names,
            #{value => <<"free | [Name, ...]">>,
              desc => <<"The names that Python processes may have on this node and in 'global'. By "
                        "default, 'free', those that are nobody's: they are not in use, were not "
                        "when the module started, are not announced by an application, are no "
                        "module's, and do not begin with 'ejabberd', 'mod_' or 'extauth_' or end "
                        "with '_cache'. A list allows its names only, and whatever they are: a name "
                        "that ejabberd uses, too. No name may begin with 'megaphone_'.">>}},
           {allowed_processes,
            #{value => <<"all | [Name, ...]">>,
              desc => <<"The registered names of the processes that Python may send to, call, link "
                        "to and monitor, or 'all' for every process. Other Python processes, and "
                        "the caller of a call that is not answered yet, are always allowed. None by "
                        "default.">>}},
           {allowed_nodes,
            #{value => <<"all | [Node, ...]">>,
              desc => <<"The other nodes of the cluster where Python may reach the processes of "
                        "'allowed_processes', or 'all' of them. A global name is reached wherever "
                        "its process is. None by default.">>}},
           {allowed_functions,
            #{value => <<"[Module:Function/Arity, ...]">>,
              desc => <<"The functions that Python may call, such as "
                        "'ejabberd_sm:connected_users_number/0'. None by default.">>}},
           {pipeline_heartbeat_interval,
            #{value => <<"timeout() | infinity">>,
              desc => <<"How often a batch of one travels to a worker and back, which goes to nobody, "
                        "so that the metrics show how long a batch takes now. From 1 second to 1 "
                        "hour, or 'infinity' for never; the default value is '5' seconds.">>}},
           {sample_interval,
            #{value => <<"timeout()">>,
              desc => <<"How often it is looked at what the metrics cannot show at once, such as "
                        "the lengths of all mailboxes: a round begins no sooner after the one "
                        "before. From 1 second to 1 hour; the default value is '5' seconds.">>}},
           {reconciliation_interval,
            #{value => <<"timeout()">>,
              desc => <<"How often the sessions that are counted are held against ejabberd's table; "
                        "no more often than a hundredth of a scheduler allows. From 1 second to 1 "
                        "hour; the default value is '60' seconds.">>}}],
      example =>
          ["modules:",
           "  mod_megaphone:",
           "    python: /opt/megaphone/bin/python3",
           "    config_file: /etc/megaphone.yml"]}.
