import asyncio
import logging
import os
import time
from pathlib import Path

import pytest

from bridge import config
from bridge.sidecar import connector
from bridge.sidecar.connector import GOOD_LIFE, RETRY_FIRST, RETRY_LONGEST, Connector, Waits
from bridge.sidecar.state import State
from erlang_port.messages import batch
from erlang_port.transports.fds import Disconnected, PortConnection
from tests.bridge.waiting import until
from tests.support.sidecar_node import SECRET, Authority, SidecarNode

OTHER = b"another secret of thirty-two bytes and more"


class Attached:
    """What goes on while it is active; notes what it is told."""

    def __init__(self):
        self.told = []
        self.stay = None
        self.fails = None

    async def attached(self, peer):
        self.told.append(("attached", peer.epoch))
        if self.fails:
            raise self.fails

    async def detached(self):
        self.told.append("detached")
        if self.stay is not None:
            await self.stay.wait()


class Sidecar:
    """A connector and all that it needs."""

    def __init__(self, place, **settings):
        self.place = place
        self.secret = place / "secret"
        self.secret.write_bytes(SECRET + b"\n")
        found = {"socket": place / "node.sock", "secret_file": self.secret} | settings
        self.settings = config.Sidecar(**found)
        self.state = State.open(place / "state", "one")
        self.port = PortConnection(name="sidecar", version="1")
        self.attachment = Attached()
        self.said = []
        self.stopped = False
        self.connector = Connector(self.settings, self.state, self.port, self.said.append)

    def start(self):
        keep = self.connector.keep(self.attachment, lambda: None)
        self.task = asyncio.create_task(keep)
        return self

    async def is_(self, condition):
        await until(lambda: self.connector.condition == condition, 10)

    async def lost(self, text):
        await until(lambda: text in (self.connector.error or ""), 10)

    async def stop(self):
        self.task.cancel()
        done, _ = await asyncio.wait({self.task}, timeout=10)
        assert done
        if not self.stopped:
            self.stopped = True
            self.state.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(connector, "RETRY_FIRST", 0.01)
    monkeypatch.setattr(connector, "RETRY_LONGEST", 0.05)


@pytest.fixture
async def node(tmp_path):
    node = SidecarNode()
    await node.listen(tmp_path / "node.sock")
    yield node
    await node.close()


@pytest.fixture
async def start(tmp_path):
    started = []

    def start(**settings):
        started.append(Sidecar(tmp_path, **settings).start())
        return started[-1]

    yield start
    for one in started:
        await one.stop()


async def test_it_stands_by_has_its_turn_and_connects_again(node, start):
    one = start()
    for epoch in (4, 9):
        link = await node.connection()
        assert (link.identity, link.instance) == ("one", one.state.instance)
        assert link.epoch == (0 if epoch == 4 else 4)
        await one.is_("standby")
        assert one.connector.reasons() == []
        await link.hello(epoch)
        await one.is_("active")
        assert one.state.epoch == epoch
        assert (one.place / "state" / "epoch").read_text() == f"{epoch}\n"
        assert one.connector.status() == {
            "identity": "one",
            "state": "active",
            "node": f"unix:{one.place}/node.sock",
            "epoch": epoch,
            "error": None,
        }
        await link.close()
        await one.lost("the node closed the port")
    assert one.attachment.told == [("attached", 4), "detached", ("attached", 9), "detached"]
    path = one.settings.socket
    assert one.said[:3] == [
        f"standing by at unix:{path}",
        "connected to stub@localhost, epoch 4",
        f"not connected to unix:{path}: the node closed the port",
    ]


async def test_the_next_one_s_turn_does_not_wait_for_what_ends_here(node, start):
    """A node that breaks the protocol, and servers that take their time."""
    one = start()
    link = await node.connection()
    await link.hello(1)
    await one.is_("active")
    one.attachment.stay = asyncio.Event()
    link.write(b"\xff\xff\xff\xff")
    await link.ended()
    assert one.connector.condition == "connecting"
    assert "4294967295 bytes" in one.connector.reasons()[0]
    assert node.attempts == 1
    one.attachment.stay.set()
    await node.connection()


async def test_what_came_with_a_turn_that_ended_at_once_is_forgotten(node, start):
    one = start()
    taken = []
    one.port.on_batch = taken.append
    link = await node.connection()
    await one.is_("standby")
    await link.hello(1, wait=False)
    link.send(batch(b"b", 0, b""))
    link.write(b"\xff\xff\xff\xff")
    await node.connection()
    assert one.attachment.told == ["detached"]


async def test_an_attachment_that_fails_is_taken_back(node, start):
    one = start()
    one.attachment.fails = Disconnected("it ended meanwhile")
    link = await node.connection()
    await link.hello(1)
    await link.ended()
    await until(lambda: one.attachment.told == [("attached", 1), "detached"])


async def test_cancelled_in_each_condition(node, tmp_path):
    for condition in ("standby", "active"):
        place = tmp_path / condition
        place.mkdir()
        one = Sidecar(place, socket=tmp_path / "node.sock").start()
        link = await node.connection()
        if condition == "active":
            await link.hello(1)
        await one.is_(condition)
        begun = time.monotonic()
        await one.stop()
        assert time.monotonic() - begun < 3
        await link.ended()
        assert "detached" not in one.attachment.told


async def test_no_descriptor_is_left_of_twenty_connections(node, start):
    one = start()
    opened = 0
    for n in range(20):
        link = await node.connection()
        await one.is_("standby")
        if n == 5:
            opened = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        await link.close()
    await node.connection()
    assert len(os.listdir("/proc/self/fd")) <= opened + 3  # noqa: PTH208


async def test_a_reason_is_said_once(tmp_path, start, caplog):
    with caplog.at_level(logging.WARNING):
        one = start()
        await one.lost("No such file or directory")
        await asyncio.sleep(0.2)  # Several attempts.
        (tmp_path / "node.sock").touch()
        await one.lost("Connection refused")
    assert len([m for m in caplog.messages if "not connected; trying again" in m]) == 2
    assert one.connector.reasons() == [
        f"node: not connected to unix:{tmp_path}/node.sock: Connection refused"
    ]


async def test_a_secret_that_is_not_there_yet(node):
    one = Sidecar(node.path.parent)
    one.secret.unlink()
    one.start()
    await one.lost("is not there: make one with")
    one.secret.write_bytes(SECRET)
    await node.connection()
    await one.stop()


async def test_a_secret_that_was_refused_is_not_said_again(node, start, monkeypatch):
    monkeypatch.setattr(connector, "SECRET_LOOK", 0.02)

    async def refuse(link):
        await link.challenge()
        await link.heard()
        await link.say(b"\x01the secrets differ")

    node.serve = refuse
    one = start()
    await one.lost("the secrets differ")
    await asyncio.sleep(0.3)  # Fifteen looks at the file.
    assert node.attempts == 1
    one.secret.unlink()
    await asyncio.sleep(0.1)
    assert node.attempts == 1
    one.secret.write_bytes(OTHER)
    await until(lambda: node.attempts == 2)
    # And after a while all the same: the node may have got this one.
    monkeypatch.setattr(connector, "SECRET_RETRY", 0.1)
    one.secret.write_bytes(SECRET)
    await until(lambda: node.attempts >= 4)


async def test_an_epoch_that_cannot_be_kept_is_told(node, start, caplog):
    one = start()
    link = await node.connection()
    (one.place / "state" / ".epoch.new").mkdir()
    await link.hello(3)
    await one.is_("active")
    assert any("the epoch cannot be kept" in message for message in caplog.messages)
    (reason,) = one.connector.reasons()
    assert reason.startswith("state: ")
    assert one.connector.status()["error"] == one.state.error
    assert one.state.epoch == 3


async def test_tls_and_its_certificates(start, tmp_path):
    authority = Authority(tmp_path)
    node = SidecarNode()
    await node.listen_tcp(authority.server(wants_client=True))
    where = {"socket": None, "host": "localhost", "port": node.port, "tls": True}
    try:
        one = Sidecar(tmp_path, **where, ca_file=authority.ca).start()
        await until(lambda: one.connector.error and "first attempt" not in one.connector.error)
        assert one.connector.status()["node"] == f"tls://localhost:{node.port}"
        await one.stop()
        certificate = authority.sidecar
        one = start(**where, ca_file=authority.ca, certificate_file=certificate)
        await one.is_("standby")
        await one.stop()
        one = start(**where | {"host": "127.0.0.1"}, ca_file=authority.ca, server_name="other.test")
        await one.lost("the node's certificate: Hostname mismatch")
    finally:
        await node.close()


@pytest.mark.parametrize("content", [None, "no certificate", "encrypted"])
@pytest.mark.parametrize("key", ["ca_file", "certificate_file"])
async def test_a_certificate_that_cannot_be_used_is_told_by_its_key(start, tmp_path, key, content):
    file = tmp_path / "x.pem"
    if content == "encrypted" and key == "certificate_file":
        # openssl would ask for a password, of nobody.
        authority = Authority(tmp_path)
        authority._openssl(
            *("ec", "-in", "sidecar.key", "-aes128", "-passout", "pass:x", "-out", "locked.key")
        )
        parts = [(tmp_path / name).read_text() for name in ("sidecar.crt", "locked.key")]
        file.write_text("".join(parts))
    elif content is not None:
        file.write_text(content)
    one = start(socket=None, host="localhost", port=1, tls=True, **{key: file})
    await one.lost(f"sidecar.{key}: {file}: ")
    assert "\n" not in one.connector.error
    with pytest.raises(OSError, match=f"sidecar.{key}"):
        connector.check(one.settings)


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"host": "::1", "socket": None}, "tcp://[::1]:8471"),
        ({"host": "node.test", "socket": None, "tls": True, "port": 99}, "tls://node.test:99"),
        ({"socket": Path("/run/node.sock")}, "unix:/run/node.sock"),
    ],
)
def test_where_it_is(tmp_path, settings, where):
    one = Sidecar(tmp_path, **settings)
    assert one.connector.status()["node"] == where
    one.state.close()


def test_waits_are_longer_each_time_and_never_too_long(monkeypatch):
    monkeypatch.undo()
    drawn = []

    def highest(low, high):
        drawn.append((low, high))
        return high

    waits = Waits(highest)
    assert [round(waits.after(0.1), 3) for _ in range(8)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]
    assert waits.after(GOOD_LIFE) == RETRY_LONGEST
    # A connection that lived for a while begins anew.
    assert [waits.after(GOOD_LIFE + 1), waits.after(0)] == [RETRY_FIRST, 2 * RETRY_FIRST]
    assert set(drawn) == {(0.5, 1.0)}


def test_many_do_not_come_at_once(monkeypatch):
    monkeypatch.undo()
    first = [Waits().after(0) for _ in range(1000)]
    assert min(first) >= RETRY_FIRST / 2
    assert max(first) <= RETRY_FIRST
    assert len(set(first)) > 900
