import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.cli.errors import ExitStatus
from bridge.embedded_node import EmbeddedNode, EmbeddedNodeError, NodeSettings, vm
from tests.support import processes
from tests.support.tools import require_ejabberd
from tests.support.xmpp import Client

MARK = vm.MARK


def everything_of(node: EmbeddedNode) -> list[int]:
    return processes.with_environment(MARK, str(node.directory))


def test_it_answers_to_the_private_ejabberdctl(embedded_node):
    assert f"The node '{embedded_node.name}' is started" in embedded_node.ctl("status").stdout
    assert embedded_node.ctl("started").returncode == 0
    assert "pong" in embedded_node.ctl("ping").stdout
    assert embedded_node.status().running


def test_ejabberdctl_takes_the_options_of_the_real_one(embedded_node):
    outcome = embedded_node.ctl("--config-dir", "/nowhere", "--no-timeout", "status")
    assert embedded_node.name in outcome.stdout


def test_a_command_that_fails_is_an_error_with_what_it_said(embedded_node):
    with pytest.raises(EmbeddedNodeError, match="unknown command"):
        embedded_node.ctl("no_such_command")
    assert embedded_node.ctl("no_such_command", check=False).returncode == 1


def test_text_arrives_as_it_was_whatever_the_locale(embedded_node, monkeypatch):
    monkeypatch.setenv("LANG", "C")
    embedded_node.register("zoë")
    embedded_node.ctl("set_last", "zoë", "localhost", "7", "weg 👋")
    found = 'mod_last:get_last_info(<<"zoë"/utf8>>, <<"localhost">>) =:= {ok, 7, <<"weg 👋"/utf8>>}'
    assert embedded_node.eval(found) == "true"


@pytest.mark.parametrize(
    ("expressions", "value"),
    [
        ("1 + 1", "2"),
        ('X = "hü", {X, <<"b">>}.', '{"hü",<<"b">>}'),
        ("lists:sum(lists:seq(1, 100))", "5050"),
        ("erlang:byte_size(binary:copy(<<0>>, 70000))", "70000"),
    ],
)
def test_eval_gives_the_value_as_erlang_text(embedded_node, expressions, value):
    assert embedded_node.eval(expressions) == value


def test_eval_of_a_long_value_is_whole(embedded_node):
    assert embedded_node.eval("lists:duplicate(300000, a)").count("a") == 300_000


@pytest.mark.parametrize(
    ("expressions", "told"),
    [("exit(gone)", "exit:gone"), ("1/0", "badarith"), ("A = ", "syntax"), ('"open', "error:")],
)
def test_eval_raises_what_the_node_raised(embedded_node, expressions, told):
    with pytest.raises(EmbeddedNodeError, match=told):
        embedded_node.eval(expressions)


def test_eval_is_bounded(embedded_node):
    with pytest.raises(EmbeddedNodeError) as caught:
        embedded_node.eval("timer:sleep(60000)", timeout=1.0)
    assert caught.value.status == ExitStatus.TIMEOUT


async def test_evals_may_run_at_once(embedded_node):
    answers = await asyncio.gather(
        *(asyncio.to_thread(embedded_node.eval, f"timer:sleep(50), {n}") for n in range(8))
    )
    assert answers == [str(n) for n in range(8)]


async def test_a_client_logs_in_and_receives_a_message(embedded_node, xmpp):
    alice = await xmpp(embedded_node, "alice", "a.test", resource="desk")
    bob = await xmpp(embedded_node, "bob", "b.test")
    bob.stream.send_message(mto=alice.jid, mbody="Grüße 👋")
    (message,) = await alice.wait_for(1)
    assert message["body"] == "Grüße 👋"
    assert message["from"] == bob.jid
    assert alice.jid == "alice@a.test/desk"


async def test_an_unknown_account_is_told_apart_from_a_slow_server(embedded_node, xmpp):
    await xmpp(embedded_node, "carol")
    client = Client("carol@localhost", "wrong", embedded_node.c2s_port)
    with pytest.raises(ConnectionError):
        await client.connect()


def test_it_listens_on_loopback_only(embedded_node):
    inodes = set()
    for process in [embedded_node.pid, *processes.descendants(embedded_node.pid)]:
        for entry in Path(f"/proc/{process}/fd").iterdir():
            inodes.add(str(entry.readlink()).removeprefix("socket:[").removesuffix("]"))
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{embedded_node.pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                listening.append(fields[1])
    loopback = "0100007F"
    assert sorted(listening) == sorted(
        f"{loopback}:{port:04X}"
        for port in (embedded_node.c2s_port, embedded_node.distribution_port)
    )


def test_the_cookie_is_on_no_command_line_and_private(embedded_node):
    cookie = embedded_node.directory / "home/.erlang.cookie"
    assert cookie.stat().st_mode & 0o777 == 0o400
    assert embedded_node.directory.stat().st_mode & 0o777 == 0o700
    secret = cookie.read_text()
    assert len(secret) >= 32
    assert embedded_node.eval("atom_to_list(erlang:get_cookie())") == f'"{secret}"'
    client = subprocess.Popen([embedded_node.ejabberdctl, "status"], stdout=subprocess.DEVNULL)
    seen: set[str] = set()
    while client.poll() is None:
        for pid in [client.pid, *processes.descendants(client.pid)]:
            seen.update(processes.command_line(pid))
    seen.update(
        word for pid in everything_of(embedded_node) for word in processes.command_line(pid)
    )
    assert any("ejabberd_ctl" in word for word in seen)
    assert not any(secret in word for word in seen)


def test_no_epmd_is_asked_for(embedded_node):
    assert embedded_node.eval("init:get_argument(start_epmd)") == '{ok,[["false"]]}'
    names = {
        Path(words[0]).name
        for pid in processes.descendants(embedded_node.pid)
        if (words := processes.command_line(pid))
    }
    assert "epmd" not in names


def test_two_run_at_once_and_do_not_know_each_other(embedded_node, start_node):
    other = start_node(hosts=("other.test",))
    assert other.name != embedded_node.name
    assert other.eval("ejabberd_option:hosts()") == '[<<"other.test">>]'
    assert "other.test" not in embedded_node.eval("ejabberd_option:hosts()")
    assert embedded_node.name not in other.eval("nodes(known)")
    assert other.name not in embedded_node.eval("nodes(known)")


def test_stop_leaves_no_process(start_node):
    node = start_node()
    pid, mine = node.pid, everything_of(node)
    assert pid in mine
    assert len(mine) > 1  # erl_child_setup at least
    assert node.stop() == ()
    assert not any(processes.alive(process) for process in mine)
    assert everything_of(node) == []
    assert node.status().state == "stopped"
    assert node.stop() == ()


def test_what_outlives_the_node_is_killed_and_named(start_node):
    node = start_node()
    node.eval(
        'open_port({spawn_executable, "/bin/sh"}, '
        '[{args, ["-c", "trap \'\' TERM HUP; exec setsid sleep 600 </dev/null >/dev/null"]}])'
    )
    processes.wait_until(
        lambda: any("sleep" in processes.command_line(pid)[:1] for pid in everything_of(node))
    )
    (left,) = [pid for pid in everything_of(node) if "sleep" in processes.command_line(pid)[:1]]
    assert node.stop() == (left,)
    assert everything_of(node) == []


def test_a_stopped_node_restarts_with_its_name_ports_and_accounts(start_node):
    node = start_node()
    node.register("dave")
    before = (node.name, node.c2s_port, node.distribution_port)
    node.restart()
    assert (node.name, node.c2s_port, node.distribution_port) == before
    assert node.eval('ejabberd_auth:count_users(<<"localhost">>)') == "1"


def test_a_killed_node_is_stale_and_can_be_started_again(start_node):
    node = start_node()
    pid = node.pid
    node.kill()
    assert not processes.alive(pid)
    assert node.status().state == "stale"
    with pytest.raises(EmbeddedNodeError) as caught:
        _ = node.pid
    assert caught.value.status == ExitStatus.NODE_NOT_RUNNING
    node.start()
    assert node.status().running


def test_a_hung_node_is_stopped(start_node):
    node = start_node()
    pid = node.pid
    os.kill(pid, signal.SIGSTOP)
    assert node.status().state == "starting"
    node.stop()
    assert not processes.alive(pid)


def test_one_directory_holds_one_node(embedded_node):
    with pytest.raises(EmbeddedNodeError, match="runs already"):
        EmbeddedNode(embedded_node.directory).start()
    assert embedded_node.status().running


def test_a_configuration_that_is_refused_is_told_from_the_log(tmp_path):
    require_ejabberd()
    node = EmbeddedNode(tmp_path / "node", NodeSettings(options={"no_such_option": 1}))
    with pytest.raises(EmbeddedNodeError, match="no_such_option"):
        node.start()
    assert everything_of(node) == []
    assert node.status().state == "stopped"


def test_a_port_that_is_taken_is_replaced(start_node):
    node = start_node()
    node.stop()
    before = node.c2s_port
    taker = NodeSettings()
    other = start_node()
    state_file = other.directory / "node.json"
    other.stop()
    document = json.loads(state_file.read_text())
    document["c2s_port"] = before
    node.start()
    state_file.write_text(json.dumps(document))
    moved = EmbeddedNode(other.directory, taker)
    moved.start()
    try:
        assert moved.c2s_port != before
        assert moved.name == document["name"]
    finally:
        moved.stop()


def test_reconfigure_changes_hosts_and_modules_of_the_running_node(start_node):
    node = start_node()
    pid = node.pid
    node.reconfigure(hosts=("localhost", "late.test"), modules={"mod_mam": {"default": "always"}})
    assert node.eval("ejabberd_option:hosts()") == '[<<"localhost">>,<<"late.test">>]'
    assert node.eval('gen_mod:get_module_opt(<<"late.test">>, mod_mam, default)') == "always"
    assert node.pid == pid


def test_modules_and_options_can_be_taken_out(start_node):
    node = start_node(modules={"mod_last": None}, options={"s2s_access": None, "loglevel": "debug"})
    assert node.eval('gen_mod:is_loaded(<<"localhost">>, mod_last)') == "false"
    assert node.eval("ejabberd_option:loglevel()") == "debug"


def test_the_environment_is_its_own(start_node, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/other")
    monkeypatch.setenv("CONTRIB_MODULES_PATH", "/var/other")
    node = start_node(environment={"GREETING": "hallo"})
    assert node.eval('os:getenv("NOTIFY_SOCKET")') == "false"
    assert node.eval('os:getenv("GREETING")') == '"hallo"'
    assert node.eval("ext_mod:modules_dir()") == f'"{node.modules_path}"'


CREATOR = """
import sys
from pathlib import Path
from bridge.embedded_node import EmbeddedNode
node = EmbeddedNode(Path(sys.argv[1]))
node.start(tied=sys.argv[2] == "tied")
print(node.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["tied", "free"])
def test_a_tied_node_ends_with_its_creator_and_a_free_one_does_not(tmp_path, how):
    require_ejabberd()
    node = EmbeddedNode(tmp_path / "node")
    with subprocess.Popen(
        [sys.executable, "-c", CREATOR, str(node.directory), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as creator:
        assert creator.stdout
        pid = int(creator.stdout.readline())
        mine = everything_of(node)
        creator.kill()
    try:
        if how == "tied":
            for process in mine:
                processes.wait_gone(process)
            assert node.status().state == "stale"
        else:
            assert node.status().running
            assert node.pid == pid
    finally:
        assert node.stop() == ()
