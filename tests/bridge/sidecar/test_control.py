"""The socket of the command line, over a connection to a stand-in for the node."""

import asyncio
import io
import json
import logging
import os
import socket
import stat
import subprocess
import sys

import aiohttp
import pytest

from bridge.sidecar import control
from bridge.sidecar.control import ControlServer
from erlang_port.etf import Atom
from erlang_port.messages import Call, Cast, Replies, Reply
from erlang_port.transports.fds import Liveness, PortConnection
from tests.bridge.waiting import until
from tests.support.sidecar_node import Connection, SidecarNode


class Node:
    """The port, and the node's end of it."""

    def __init__(self) -> None:
        self.port = PortConnection(name="sidecar", version="1")
        self._node = SidecarNode(self._nothing)

    @staticmethod
    async def _nothing(_: Connection) -> None:
        return

    async def connect(self, place, *, standby: bool = False) -> Connection:
        await self._node.listen(place / "node.sock")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(place / "node.sock"))
        connection = await self._node.connection()
        turn = self.port.stand_by(self._socket.fileno(), Liveness(5.0, 30.0), 0)
        self._turn = asyncio.create_task(turn)
        if not standby:
            await connection.hello()
            await self._turn
        return connection

    async def close(self) -> None:
        if hasattr(self, "_turn"):
            self._turn.cancel()
        await self.port.close()
        if hasattr(self, "_socket"):
            self._socket.close()
        await self._node.close()


@pytest.fixture
async def node():
    node = Node()
    yield node
    await node.close()


@pytest.fixture
async def serve(node):
    """Starts servers; their paths are in the test's directory."""
    running = []

    async def status():
        return {"bridge": {"pid": os.getpid()}}

    async def start(path, *, ready=True):
        begun = asyncio.Event()
        server = ControlServer(path, node.port, status)
        running.append(asyncio.create_task(server.run(begun.set)))
        await asyncio.wait_for(begun.wait(), 5)
        if ready:
            await until(lambda: listens(path))
        return running[-1]

    yield start
    for task in running:
        await stop(task)


def listens(path):
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


async def stop(task):
    task.cancel()
    await asyncio.wait({task}, timeout=5)
    assert task.done()


async def ask(path, method, target, **more):
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
        session.request(method, f"http://localhost{target}", **more) as response,
    ):
        return response.status, await response.text()


async def test_it_is_its_user_s_only_and_gone_at_the_end(serve, tmp_path):
    path = tmp_path / "made" / "control.sock"
    mask = os.umask(0)
    try:
        task = await serve(path)
    finally:
        now = os.umask(mask)
    assert now == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    await stop(task)
    assert not path.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("user", [65534, 0])
async def test_another_user_cannot_connect(serve, tmp_path, user):
    path = tmp_path / "control.sock"
    await serve(path)
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == os.getuid() and str(directory).startswith("/tmp/"):
            directory.chmod(0o755)
    script = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})"
    command = ["setpriv", f"--reuid={user}", "--clear-groups", sys.executable, "-I", "-c", script]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode == 0) == (user == 0)
    assert user == 0 or "PermissionError" in done.stderr


async def test_a_socket_that_a_killed_one_left_is_taken_away(serve, tmp_path):
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
        left.listen()
    assert stat.S_ISSOCK(path.stat().st_mode)
    await serve(path)
    assert (await ask(path, "GET", "/v1/status"))[0] == 200


@pytest.mark.parametrize("what", ["file", "directory", "symlink"])
async def test_what_is_no_socket_stays_where_it_is(serve, tmp_path, caplog, what):
    path = tmp_path / "control.sock"
    target = tmp_path / "target"
    target.write_text("the operator's own")
    if what == "file":
        path.write_text("the operator's own")
    elif what == "directory":
        path.mkdir()
    else:
        path.symlink_to(target)
    with caplog.at_level(logging.ERROR):
        task = await serve(path, ready=False)
        await until(lambda: caplog.messages)
    assert "no socket: remove it" in caplog.messages[0]
    assert "control.sock" in caplog.messages[0]
    await stop(task)
    assert path.is_dir() if what == "directory" else path.read_text() == "the operator's own"


async def test_the_socket_of_another_that_runs_stays(serve, tmp_path, caplog):
    path = tmp_path / "control.sock"
    first = await serve(path)
    with caplog.at_level(logging.ERROR):
        second = await serve(path, ready=False)
        await until(lambda: caplog.messages)
    assert "another sidecar listens there" in caplog.messages[0]
    await stop(second)
    assert (await ask(path, "GET", "/v1/status"))[0] == 200
    await stop(first)
    assert not path.exists()


async def test_one_that_came_in_its_place_is_not_its_own(serve, tmp_path):
    path = tmp_path / "control.sock"
    task = await serve(path)
    path.rename(tmp_path / "away.sock")
    path.write_text("somebody else's")
    await stop(task)
    assert path.read_text() == "somebody else's"


async def test_it_listens_once_it_can(serve, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(control, "RETRY", 0.01)
    path = tmp_path / "control.sock"
    path.write_text("")
    with caplog.at_level(logging.ERROR):
        await serve(path, ready=False)
        await until(lambda: caplog.messages)
        await asyncio.sleep(0.1)  # Ten attempts, and one line.
        path.unlink()
        await until(lambda: listens(path))
    assert len(caplog.messages) == 1


async def test_a_path_that_is_too_long(serve, tmp_path, caplog):
    with caplog.at_level(logging.ERROR):
        await serve(tmp_path / ("x" * 150), ready=False)
        await until(lambda: caplog.messages)
    assert "too long" in caplog.messages[0]


async def test_the_status_needs_no_node(serve, tmp_path):
    path = tmp_path / "control.sock"
    await serve(path)
    status, body = await ask(path, "GET", "/v1/status")
    assert (status, json.loads(body)) == (200, {"bridge": {"pid": os.getpid()}})


@pytest.mark.parametrize("standby", [False, True])
async def test_without_a_turn_a_command_is_refused(serve, node, tmp_path, standby):
    if standby:
        await node.connect(tmp_path, standby=True)
    path = tmp_path / "control.sock"
    await serve(path)
    for method, target in (("POST", "/v1/broadcasts"), ("GET", "/v1/broadcasts/x")):
        status, body = await ask(path, method, target)
        assert (status, json.loads(body)) == (
            503,
            {"reason": "there is no connection to the node"},
        )


async def test_a_broadcast_goes_to_the_node_as_it_came(serve, node, tmp_path):
    connection = await node.connect(tmp_path)
    path = tmp_path / "control.sock"
    await serve(path)
    text = '{"template":"Zo\\u00eb"}'
    connection.answers[b"commands"] = {
        (Atom("broadcast"), text.encode()): b'{"id":"b1"}',
        (Atom("broadcast_status"), "b/1 é".encode()): b'{"n":1}',
    }.__getitem__
    asking = asyncio.create_task(ask(path, "POST", "/v1/broadcasts", data=text))
    # Whoever waits for a message answers those that it has answers for.
    listening = asyncio.create_task(connection.receive(Cast))
    assert await asyncio.wait_for(asking, 5) == (200, '{"id":"b1"}')
    answer = await ask(path, "GET", "/v1/broadcasts/b%2F1%20%C3%A9")
    assert answer == (200, '{"n":1}')
    listening.cancel()


async def test_what_the_node_refuses_or_garbles(serve, node, tmp_path, monkeypatch):
    monkeypatch.setattr(control, "TIMEOUT", 0.2)
    connection = await node.connect(tmp_path)
    path = tmp_path / "control.sock"
    await serve(path)
    cases = [
        (lambda id_: Reply(id_, True, b"\x83garbage"), "the answer is no term"),
        (lambda id_: Reply(id_, True, b"\x83a\x01"), "the node's answer is no document"),
        (None, "the node did not answer within 0.2 s"),
    ]
    for reply, reason in cases:
        asking = asyncio.create_task(ask(path, "GET", "/v1/broadcasts/x"))
        call = await connection.receive(Call)
        if reply is not None:
            connection.send(Replies([reply(call.id)]))
        status, body = await asyncio.wait_for(asking, 5)
        assert status == 503
        assert reason in json.loads(body)["reason"]


async def test_a_connection_that_ends_meanwhile(serve, node, tmp_path):
    connection = await node.connect(tmp_path)
    path = tmp_path / "control.sock"
    await serve(path)
    asking = asyncio.create_task(ask(path, "GET", "/v1/broadcasts/x"))
    await connection.receive(Call)
    await connection.close()
    status, body = await asyncio.wait_for(asking, 5)
    assert status == 503
    assert json.loads(body)["reason"] == "the node closed the port"


async def test_too_large_a_request(serve, tmp_path):
    path = tmp_path / "control.sock"
    await serve(path)
    status, _ = await ask(
        path, "POST", "/v1/broadcasts", data=io.BytesIO(b"x" * (control.LIMIT + 1))
    )
    assert status == 413
    # The largest that the node would take is no reason to refuse.
    status, _ = await ask(path, "POST", "/v1/broadcasts", data=io.BytesIO(b"x" * control.LIMIT))
    assert status == 503


async def test_nothing_else_is_there(serve, tmp_path):
    path = tmp_path / "control.sock"
    await serve(path)
    for target in ("/", "/metrics", "/v1/broadcasts", "/v1/broadcasts/", "/v1/events"):
        assert (await ask(path, "GET", target))[0] in {404, 405}
