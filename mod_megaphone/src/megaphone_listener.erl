%%% Listens for sidecars, and tries again for as long as it cannot. Not under ejabberd's `listen`:
%%% there, a module that is not installed yet keeps the node from booting.
-module(megaphone_listener).

-behaviour(gen_server).

-export([start_link/0]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-include("logger.hrl").

%% Milliseconds between two attempts to listen.
-define(RETRY, 5000).
%% Milliseconds without descriptors, after which the next connection is waited for.
-define(PAUSE, 200).

-record(state, {endpoint = none :: none | megaphone_endpoint:endpoint(),
                acceptor = none :: none | pid(),
                %% What the log says already.
                told = <<>> :: binary()}).

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @private
-spec init([]) -> {ok, #state{}, {continue, listen}}.
init([]) ->
    _ = process_flag(trap_exit, true),
    {ok, #state{}, {continue, listen}}.

%% @private
-spec handle_continue(listen, #state{}) -> {noreply, #state{}}.
handle_continue(listen, State) ->
    {noreply, listen(State)}.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call(_Request, _From, State) ->
    {reply, {error, badarg}, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Message, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(listen, State = #state{endpoint = none}) ->
    {noreply, listen(State)};
handle_info({'EXIT', Acceptor, Reason}, State = #state{acceptor = Acceptor, endpoint = Endpoint}) ->
    ok = megaphone_endpoint:close(Endpoint),
    {noreply, later(io_lib:format("sidecars are accepted no more: ~0P", [Reason, 8]),
                    State#state{acceptor = none, endpoint = none})};
handle_info(_Message, State) ->
    {noreply, State}.

%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{endpoint = none}) -> ok;
terminate(_Reason, #state{endpoint = Endpoint}) -> megaphone_endpoint:close(Endpoint).

listen(State) ->
    case mod_megaphone:option(sidecar) of
        %% This tree is about to end.
        undefined -> State;
        Options -> listen(Options, State)
    end.

listen(Options = #{secret_file := File}, State) ->
    case megaphone_handshake:secret(File) of
        {ok, _} ->
            case megaphone_endpoint:listen(Options) of
                {ok, Endpoint = #{name := Name}} ->
                    ?INFO_MSG("megaphone: waiting for sidecars at ~ts", [Name]),
                    ok = megaphone_sidecars:listening({ok, Name}),
                    State#state{endpoint = Endpoint, told = <<>>,
                                acceptor = spawn_link(fun() -> accept(Endpoint) end)};
                {error, Text} ->
                    later(Text, State)
            end;
        {error, Text} ->
            later(["sidecar.secret_file: ", Text], State)
    end.

later(Text, State = #state{told = Told}) ->
    _ = erlang:send_after(?RETRY, self(), listen),
    Line = unicode:characters_to_binary(Text),
    ok = megaphone_sidecars:listening({error, Line}),
    _ = [?ERROR_MSG("megaphone: no sidecar can connect: ~ts. It is tried again every ~b s",
                    [Line, ?RETRY div 1000]) || Line =/= Told],
    State#state{told = Line}.

accept(Endpoint = #{listener := Listener}) ->
    case gen_tcp:accept(Listener) of
        {ok, Socket} ->
            ok = accepted(Socket, Endpoint),
            accept(Endpoint);
        {error, Reason} when Reason =:= emfile; Reason =:= enfile; Reason =:= system_limit ->
            receive after ?PAUSE -> accept(Endpoint) end;
        {error, econnaborted} ->
            accept(Endpoint);
        {error, Reason} ->
            exit(Reason)
    end.

accepted(Socket, Endpoint) ->
    case megaphone_endpoint:address(Socket) of
        {ok, Address} ->
            {ok, Pid} = megaphone_sidecar_sup:start_child(Endpoint),
            Admission = megaphone_sidecars:admit(Pid, Address),
            case gen_tcp:controlling_process(Socket, Pid) of
                ok -> megaphone_sidecar:take(Pid, Socket, {Address, Admission});
                {error, _} -> gen_tcp:close(Socket)
            end;
        %% Gone again.
        {error, _} ->
            gen_tcp:close(Socket)
    end.
