%% What the tests of the sidecars' modules share: a directory, a secret, certificates, and the node's
%% side of it all, megaphone_port included.
-module(sidecar_test).

-export([stop/1, secret/0, directory/0, remove/1, free_port/0, certificates/1]).
-export([with_options/2, with_node/2, options/2, refusals/0, connected/0, port_state/0]).

-include_lib("eunit/include/eunit.hrl").

secret() -> <<"0123456789abcdef0123456789abcdef">>.

%% A new directory, its name short: a Unix socket's path is.
directory() ->
    Directory = filename:join("/tmp", io_lib:format("megaphone-~s-~b", [os:getpid(), erlang:unique_integer([positive])])),
    ok = file:make_dir(Directory),
    ok = file:write_file(filename:join(Directory, "secret"), [secret(), $\n]),
    unicode:characters_to_binary(Directory).

remove(Directory) ->
    ok = file:del_dir_r(Directory).

free_port() ->
    {ok, Listener} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    ok = gen_tcp:close(Listener),
    Port.

%% Certificates of the node and of a sidecar, each of an authority of its own: PEM files.
certificates(Directory) ->
    #{server_config := Server, client_config := Client} =
        public_key:pkix_test_data(#{server_chain => chain(), client_chain => chain()}),
    Write = fun(Name, Entries) ->
                    File = filename:join(Directory, Name),
                    ok = file:write_file(File, public_key:pem_encode(Entries)),
                    File
            end,
    #{certfile => Write(<<"node.pem">>, pair(Server)),
      %% What a side trusts is the other's authority.
      cafile => Write(<<"sidecars_ca.pem">>, [{'Certificate', Der, not_encrypted}
                                             || Der <- proplists:get_value(cacerts, Server)]),
      client => [{cert, proplists:get_value(cert, Client)}, {key, proplists:get_value(key, Client)}]}.

chain() ->
    Options = [{key, {namedCurve, secp256r1}}, {digest, sha256}],
    #{root => Options, intermediates => [], peer => Options}.

pair(Config) ->
    {Type, Key} = proplists:get_value(key, Config),
    [{'Certificate', proplists:get_value(cert, Config), not_encrypted}, {Type, Key, not_encrypted}].

%% The options of a node whose sidecars come in at a Unix socket, or where Changes say.
options(Directory, Changes = #{sidecar := Sidecar}) ->
    Defaults = #{secret_file => filename:join(Directory, <<"secret">>)},
    megaphone_test:options("answers", maps:merge(
                                        #{heartbeat_interval => 1000, heartbeat_timeout => 5000},
                                        Changes#{sidecar => maps:merge(Defaults, Sidecar)}));
options(Directory, Changes) ->
    options(Directory, Changes#{sidecar => #{socket => filename:join(Directory, <<"node.sock">>)}}).

with_options(Options, Fun) ->
    persistent_term:put({mod_megaphone, options}, Options),
    try Fun()
    after persistent_term:erase({mod_megaphone, options})
    end.

%% Runs a fun with the node's side of it running and listening, every line of the log kept. It gets
%% where sidecars come in and the directory. Changes are options, or a fun of the directory that makes
%% them.
with_node(Changes, Fun) ->
    {timeout, 60,
     fun() ->
             process_flag(trap_exit, true),
             Directory = directory(),
             Options = options(Directory, case is_function(Changes) of
                                              true -> Changes(Directory);
                                              false -> Changes
                                          end),
             ok = megaphone_counts:start(),
             try
                 megaphone_test:with_log(
                   fun() -> with_options(Options, fun() -> running(Options, Directory, Fun) end) end)
             after
                 ok = megaphone_counts:stop(),
                 remove(Directory),
                 process_flag(trap_exit, false)
             end
     end}.

running(Options = #{sidecar := Sidecar}, Directory, Fun) ->
    {ok, Port} = megaphone_port:start_link(Options),
    {ok, Sidecars} = megaphone_sidecars_sup:start_link(),
    try
        megaphone_test:until(fun() -> maps:get(<<"listening">>, megaphone_sidecars:status()) =/= undefined end),
        Fun(where(Sidecar), Directory)
    after
        [stop(Pid) || Pid <- [Sidecars, Port]]
    end.

where(#{socket := Path}) -> {unix, Path};
where(#{port := Port, tls := true}) -> {tls, Port};
where(#{port := Port}) -> {tcp, Port}.

stop(Pid) ->
    Monitor = monitor(process, Pid),
    unlink(Pid),
    exit(Pid, shutdown),
    receive {'DOWN', Monitor, process, Pid, _} -> ok after 8000 -> error({still_there, Pid}) end.

%% How often connections were refused for each reason, those left out that were not.
refusals() ->
    #{<<"sidecar_refusals_total">> := Rows} = megaphone_counts:metrics(),
    %% It counts first: its line in the log is there, too, when it answers.
    _ = megaphone_sidecars:status(),
    [Row || {_, Count} = Row <- Rows, Count > 0].

%% Identities and states of the sidecars that are connected.
connected() ->
    #{<<"connected">> := Connected} = megaphone_sidecars:status(),
    [{State, Identity} || #{<<"identity">> := Identity, <<"state">> := State} <- Connected].

port_state() ->
    maps:get(<<"state">>, megaphone_port:status()).
