"""`python -m bridge.sidecar` as a process, beside a stand-in for the node."""

import asyncio
import os
import re
import signal
import socket
import sys
import time

import aiohttp
import pytest

from erlang_port.messages import BatchDone, Heartbeat
from tests.bridge.fanout.conftest import a_batch, texts
from tests.bridge.sidecar.notified import heard
from tests.bridge.waiting import until
from tests.erlang_port.otp.port_stand_in import PortStandIn
from tests.support.processes import alive, children, state
from tests.support.sidecar_node import SECRET, SidecarNode

SOURCE = """
from erlang_port.otp.gen_server import GenServer, Ok
from erlang_port.otp.runtime import self as me
class Shouter(GenServer):
    def init(self, args):
        me().trap_exit = True
        print("init", flush=True)
        return Ok(args)
    def terminate(self, reason, state):
        print("terminated", reason, flush=True)
"""


class Program:
    def __init__(self, place, **environment):
        self.place = place
        secret = place / "secret"
        if not secret.exists():
            secret.write_bytes(SECRET)
        self.log = place / "log"
        self.control = place / "control.sock"
        kept = {name: value for name, value in os.environ.items() if name[:9] != "MEGAPHONE"}
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        self.environment = {
            **kept,
            "MEGAPHONE_SIDECAR__SOCKET": str(place / "node.sock"),
            "MEGAPHONE_SIDECAR__SECRET_FILE": str(secret),
            "MEGAPHONE_SIDECAR__STATE_DIR": str(place / "state"),
            "MEGAPHONE_SIDECAR__CONTROL_SOCKET": str(self.control),
            "MEGAPHONE_HTTP__PORT": self.url.rpartition(":")[2],
            "MEGAPHONE_WORKERS__COUNT": "1",
            **environment,
        }

    async def start(self, *arguments):
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-u", "-m", "bridge.sidecar", *arguments),
                stdout=log,
                stderr=log,
                env=self.environment,
            )
        return self

    async def get(self, path):
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(self.url + path) as response,
            ):
                return response.status, await response.text()
        except aiohttp.ClientError:
            return None

    async def until_ready(self, answer):
        async with asyncio.timeout(20):
            while await self.get("/readyz") != answer:  # noqa: ASYNC110 - polled by HTTP
                await asyncio.sleep(0.02)

    def said(self):
        return self.log.read_text()

    async def ended(self, timeout=20.0):
        async with asyncio.timeout(timeout):
            return await self.process.wait()

    async def stop(self):
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


@pytest.fixture
async def program(tmp_path):
    started = []

    async def start(*arguments, **environment):
        started.append(Program(tmp_path, **environment))
        return await started[-1].start(*arguments)

    yield start
    for one in started:
        await one.stop()


@pytest.fixture
async def node(tmp_path):
    node = SidecarNode()
    await node.listen(tmp_path / "node.sock")
    yield node
    await node.close()


@pytest.fixture
def systemd(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        yield listener


async def test_a_whole_life(program, node, systemd, tmp_path):
    (tmp_path / "own.py").write_text(SOURCE)
    (tmp_path / "own.toml").write_text(
        f'python_path = ["{tmp_path}"]\n[servers.shouter]\nstart = "own:Shouter"\nargs = 1\n'
    )
    one = await program(
        MEGAPHONE_CONFIG=str(tmp_path / "own.toml"), NOTIFY_SOCKET=str(tmp_path / "notify")
    )
    link = await node.connection()
    link.answers[b"processes"] = PortStandIn.proxies
    # Its turn comes before its tree stands: nothing of that is lost.
    await link.hello(1)
    listening = asyncio.create_task(link.receive(BatchDone))
    await one.until_ready((200, "ready\n"))
    assert await one.get("/healthz") == (200, "ok\n")
    await until(lambda: "init\n" in one.said())
    link.send(a_batch("b", 0, "Hello {{ user }}"))
    assert texts(await listening) == [b"Hello romeo", b"Hello juliet"]
    assert one.said().count("init\n") == 1
    workers = children(one.process.pid)

    # The node goes, and comes back: the workers stay, the servers are new ones.
    await link.close()
    await until(lambda: "terminated shutdown" in one.said())
    link = await node.connection()
    link.answers[b"processes"] = PortStandIn.proxies
    await one.until_ready((200, "standing by\n"))
    assert one.said().count("init\n") == 1
    assert await link.receive(Heartbeat)
    await link.hello(2)
    listening = asyncio.create_task(link.receive(BatchDone))
    await until(lambda: one.said().count("init\n") == 2)
    await one.until_ready((200, "ready\n"))
    link.send(a_batch("c", 0, "{{ user }}"))
    assert texts(await listening) == [b"romeo", b"juliet"]
    assert children(one.process.pid) == workers

    begun = time.monotonic()
    one.process.send_signal(signal.SIGTERM)
    assert await one.ended() == 0
    assert time.monotonic() - begun < 5
    assert not any(alive(worker) for worker in workers)
    assert not one.control.exists()
    said = [word for word in heard(systemd) if word != "WATCHDOG=1"]
    assert said[-1] == "STOPPING=1"
    where = f"unix:{tmp_path}/node.sock"
    wanted = ["READY=1", f"STATUS=standing by at {where}"]
    assert sorted(said[:2]) == wanted
    assert "STATUS=connected to stub@localhost, epoch 2" in said
    assert "Traceback" not in one.said()
    assert re.search(
        r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[info\] megaphone\.", one.said(), re.MULTILINE
    )


async def test_without_a_node_it_runs_and_says_why_it_is_not_ready(program, tmp_path):
    one = await program()
    wanted = f"node: not connected to unix:{tmp_path}/node.sock: No such file or directory\n"
    await one.until_ready((503, wanted))
    assert await one.get("/healthz") == (200, "ok\n")
    for path in ("/", "/v1/events", "/v1/broadcasts"):
        assert (await one.get(path))[0] == 404
    status, text = await one.get("/v1/status")
    assert status == 200
    assert '"state": "connecting"' in text or '"state":"connecting"' in text
    worker = children(one.process.pid)
    # Its death is its workers', too.
    one.process.kill()
    await one.ended()
    await until(lambda: all(state(pid) in {None, "Z"} for pid in worker))
    # And the directory is nobody's: the next one starts, and takes the socket's place.
    again = await program()
    await again.until_ready((503, wanted))
    again.process.send_signal(signal.SIGINT)
    assert await again.ended() == 0


@pytest.mark.parametrize(
    ("environment", "arguments", "status", "said"),
    [
        ({}, ["--check"], 0, r"megaphone: OK: megaphone \S+, \S+\n"),
        ({"MEGAPHONE_SIDECAR__SECRET_FILE": "/no"}, ["--check"], 1, r"megaphone: secret: /no .*\n"),
        ({"MEGAPHONE_SIDECAR__STATE_DIR": "/proc/x"}, [], 1, r"megaphone: state: /proc/x .*\n"),
        ({}, ["--check", "more"], 2, r"megaphone: usage: .*\n"),
    ],
)  # fmt: skip
async def test_exit_statuses(program, environment, arguments, status, said):
    one = await program(*arguments, **environment)
    assert await one.ended() == status
    assert re.fullmatch(said, one.said())


async def test_check_looks_at_the_certificates(program, tmp_path):
    (tmp_path / "ca.pem").write_text("none")
    one = Program(
        tmp_path,
        MEGAPHONE_SIDECAR__HOST="localhost",
        MEGAPHONE_SIDECAR__TLS="true",
        MEGAPHONE_SIDECAR__CA_FILE=str(tmp_path / "ca.pem"),
    )
    del one.environment["MEGAPHONE_SIDECAR__SOCKET"]
    await one.start("--check")
    assert await one.ended() == 1
    assert one.said().startswith(f"megaphone: TLS: sidecar.ca_file: {tmp_path}/ca.pem: ")
    assert program
