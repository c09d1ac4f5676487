#!/usr/bin/env escript
%% Compiles Erlang sources against the installed ejabberd, as its ext_mod does, with every
%% warning an error:   ERL_LIBS=... escript build.escript OUTDIR SOURCE...
%% `escript build.escript --includes` prints the include directories, one a line.

main(["--includes"]) ->
    [io:format("~ts~n", [Dir]) || {i, Dir} <- includes()];
main([Out | Sources]) ->
    true = code:add_patha(Out),
    Options = [{outdir, Out}, debug_info, report, warnings_as_errors, warn_missing_spec,
               {i, filename:join(package(), "include")} | includes()],
    Behaviours = [gen_mod],
    [code:ensure_loaded(Behaviour) || Behaviour <- Behaviours],
    case [Source || Source <- Sources, compile:file(Source, options(Source, Options)) =:= error] of
        [] -> ok;
        _ -> halt(1)
    end.

%% EUnit adds exports of its own, which have no specs.
options(Source, Options) ->
    case lists:suffix("_tests.erl", Source) orelse string:find(Source, "/tests/") =/= nomatch of
        true -> Options -- [warn_missing_spec];
        false -> Options
    end.

package() ->
    filename:join(filename:dirname(filename:dirname(filename:dirname(
        filename:absname(escript:script_name())))), "mod_megaphone").

%% The directories that ext_mod gives to the compiler; Debian's packages have names of their own.
includes() ->
    Applications = [fast_xml, xmpp, p1_utils, ejabberd, p1_xml, p1_xmpp],
    lists:usort([{i, Include} || Application <- Applications,
                                 Dir <- [application_dir(Application)], Dir =/= none,
                                 Include <- [filename:join(Dir, "include")],
                                 filelib:is_dir(Include)]).

application_dir(Application) ->
    case code:lib_dir(Application) of
        {error, bad_name} ->
            case code:which(Application) of
                Beam when is_list(Beam) -> filename:dirname(filename:dirname(Beam));
                _ -> none
            end;
        Dir -> Dir
    end.
