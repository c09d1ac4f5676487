"""The whole stack: real clients, a broadcast, Prometheus; what is killed comes back."""

import asyncio
import contextlib
import json
import os
import re
import secrets
import signal
import urllib.error
import urllib.request

import pytest

from tests.compose.stack import docker, wait_until
from tests.support.prometheus import Prometheus
from tests.support.xmpp import Client

SERVICES = ("ejabberd", "megaphone", "prometheus")

#: Simulated sessions, and the text that each must get.
SESSIONS = 50_000
TEXT = "Hello {{ user }}, this service restarts at 22:00 UTC; please save what you are working on."
#: So much work for each recipient that the broadcast takes long enough to be disturbed.
SLOW = "{% for a in range(4000) %}{% endfor %}" + TEXT

#: Seconds in which one of the sidecars that stand by has to take over.
TAKEOVER = 3.0


@contextlib.asynccontextmanager
async def clients(stack, *users):
    """Real clients, each with an account of its own."""
    found = []
    try:
        for user in users:
            account = f"{user}{secrets.token_hex(3)}"
            await asyncio.to_thread(stack.register, account, "secret")
            port = stack.port("ejabberd", 5222)
            client = Client(f"{account}@localhost", "secret", port)
            found.append(client)
            await client.connect()
        yield found
    finally:
        for client in found:
            await client.disconnect()


def get(stack, path, index=1):
    """Status and text of what the sidecar answers on the host's loopback."""
    url = f"http://127.0.0.1:{stack.port('megaphone', 8470, index)}{path}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def prometheus(stack):
    return Prometheus(f"http://127.0.0.1:{stack.port('prometheus', 9090)}")


async def broadcast_reaches(stack, people, text):
    """A broadcast from the sidecar's container, and everybody's message."""
    done = await asyncio.to_thread(
        stack.megaphone, "broadcast", f"{text} {{{{ user }}}}", "--watch"
    )
    for client in people:
        wanted = f"{text} {client.stream.boundjid.user}"
        await client.wait_until(lambda c=client, w=wanted: w in c.bodies)
        assert client.bodies.count(wanted) == 1
    return done


def test_everything_runs_with_no_more_rights_than_it_needs(stack):
    users = {"ejabberd": "9000:9000", "megaphone": "8470:8470", "prometheus": "65534:65534"}
    for service in SERVICES:
        found = stack.inspect(service)
        host = found["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert not host["CapAdd"], service
        assert host["SecurityOpt"] == ["no-new-privileges:true"], service
        assert found["Config"]["User"] == users[service]
        assert host["Memory"] > 0
        assert host["NanoCpus"] > 0
        assert host["PidsLimit"] > 0
        assert list(found["NetworkSettings"]["Networks"]) == [f"{stack.project}_private"]
        for bindings in found["NetworkSettings"]["Ports"].values():
            assert all(bound["HostIp"] == "127.0.0.1" for bound in bindings or [])


def test_the_secret_is_in_a_file_that_the_containers_can_read_and_others_cannot_reach(stack):
    assert stack.secret.stat().st_mode & 0o777 == 0o644
    assert stack.secret.parent.stat().st_mode & 0o777 == 0o700
    text = stack.secret.read_text().strip()
    assert re.fullmatch("[0-9a-f]{64}", text)
    for service in ("ejabberd", "megaphone"):
        assert text not in json.dumps(stack.inspect(service)), service
        assert text not in stack.logs(service)
        script = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null || true"
        assert text not in docker("exec", stack.container(service), "sh", "-c", script)


def test_the_socket_is_for_two_users_and_nobody_else(stack):
    shown = docker(
        *("exec", stack.container("megaphone"), "stat", "-c", "%a %u %g %F"),
        *("/run/megaphone", "/run/megaphone/node.sock", "/run/megaphone-control/control.sock"),
    )
    assert shown.splitlines() == [
        "2770 9000 8470 directory",
        "660 9000 8470 socket",
        "600 8470 8470 socket",
    ]


def test_nothing_but_the_clients_port_is_open_in_ejabberds_container(stack):
    shown = docker("exec", stack.container("ejabberd"), "cat", "/proc/net/tcp", "/proc/net/tcp6")
    rows = [line.split() for line in shown.splitlines()]
    # 0A: listening. Docker's own name server listens on 127.0.0.11.
    listening = [row[1] for row in rows if row[3] == "0A"]
    beyond = [address for address in listening if not re.match(r"[0-9A-F]{6}7F:", address)]
    assert [int(address.split(":")[1], 16) for address in beyond] == [5222]


def test_the_sidecar_serves_what_others_may_see_and_no_more(stack):
    assert get(stack, "/healthz") == (200, "ok\n")
    assert get(stack, "/readyz") == (200, "ready\n")
    assert get(stack, "/v1/status")[0] == 200
    for path in ("/", "/v1/events", "/v1/broadcasts"):
        assert get(stack, path)[0] == 404, path


async def test_a_broadcast_from_the_sidecars_container_reaches_real_clients_and_prometheus(stack):
    sent = 'sum(megaphone_recipients_total{outcome="sent"})'
    async with clients(stack, "alice", "bob") as people:
        await broadcast_reaches(stack, people, "Hello")
    shown = stack.status()["broadcasts"][0]
    assert (shown["state"], shown["sent"]) == ("done", 2)
    watching = prometheus(stack)
    # A scrape comes every 15 seconds.
    wait_until(lambda: watching.numbers(sent) == [2.0], 40, lambda: watching.numbers(sent))
    assert watching.numbers('up{job="megaphone"}') == [1.0]
    assert watching.numbers("megaphone_up") == [1.0]


def test_prometheus_has_the_rules_and_the_page(stack):
    watching = prometheus(stack)
    groups = watching.ask("rules")["groups"]
    names = {rule["name"] for group in groups for rule in group["rules"]}
    assert "MegaphoneDown" in names
    assert all(rule["health"] != "err" for group in groups for rule in group["rules"])
    with urllib.request.urlopen(f"{watching.url}/consoles/megaphone.html", timeout=10) as page:
        assert "megaphone" in page.read().decode().lower()


@pytest.mark.parametrize("service", SERVICES)
async def test_a_container_that_is_killed_comes_back(stack, service):
    docker("kill", stack.container(service))
    state = stack.inspect(service)["State"]
    assert (state["Running"], state["ExitCode"]) == (False, 137)
    # To Docker it is stopped by hand: no restart policy applies, and the operator starts it.
    stack.up()
    assert stack.health(service) == "healthy"
    wait_until(stack.active, 30, "the sidecar is active")
    async with clients(stack, "carol") as people:
        await broadcast_reaches(stack, people, f"After the end of {service}")


@pytest.mark.parametrize("service", SERVICES)
def test_a_program_that_dies_is_started_again(stack, service):
    before = stack.inspect(service)
    os.kill(before["State"]["Pid"], signal.SIGKILL)
    wait_until(
        lambda: stack.inspect(service)["RestartCount"] == before["RestartCount"] + 1,
        30,
        f"{service} is started again",
    )
    for one in SERVICES:
        stack.wait_healthy(one)
    wait_until(stack.active, 30, "the sidecar is active")


def test_ejabberd_ends_properly_and_keeps_its_accounts(stack):
    stack.register("keeper", "secret")
    stack.compose("stop", "ejabberd")
    assert stack.inspect("ejabberd")["State"]["ExitCode"] == 0
    assert "is stopped in the node" in stack.logs("ejabberd")
    stack.wait_ready_reason("node: not connected")
    stack.up()
    assert "keeper" in stack.ctl("registered_users", "localhost").split()


def test_the_sidecar_is_replaced_in_the_midst_of_a_broadcast(stack):
    """Nobody of 50,000 is left out, nobody gets anything twice."""
    stack.eval('{module, _} = code:load_abs("/usr/local/lib/sinks/megaphone_bench"), ok')
    stack.eval(f'megaphone_bench:prepare({SESSIONS}, <<"localhost">>)')
    stack.eval(f"megaphone_bench:open({SESSIONS})")
    wait_until(
        lambda: int(stack.eval("megaphone_bench:opened()")) == SESSIONS, 120, "sessions are open"
    )
    wait_until(stack.active, 30, "the sidecar is active")
    epoch = stack.sidecar()["epoch"]
    before = stack.container("megaphone")

    shown = stack.megaphone("broadcast", SLOW, "--json").stdout
    broadcast = json.loads(shown)["id"]
    wait_until(
        lambda: int(stack.eval("megaphone_bench:received()")) > SESSIONS // 10,
        120,
        "a tenth of it is sent",
    )
    docker("kill", before)
    killed_at = int(stack.eval("megaphone_bench:received()"))
    assert 0 < killed_at < SESSIONS
    docker("rm", before)
    stack.up()
    assert stack.container("megaphone") != before

    def over():
        found = [one for one in stack.status().get("broadcasts", []) if one["id"] == broadcast]
        return found[0] if found and found[0]["state"] in {"done", "failed"} else None

    done = wait_until(over, 180, "the broadcast is over")
    assert (done["state"], done["sent"], done["gone"]) == ("done", SESSIONS, 0)
    assert stack.eval("megaphone_bench:tally()") == f"{{{SESSIONS}, 0, 0, 0}}"
    assert stack.sidecar()["epoch"] > epoch
    stack.eval("megaphone_bench:close()", timeout=120)
