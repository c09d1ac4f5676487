"""Sidecars beside a real node: connected, killed, replaced; broadcasts from their own socket."""

import asyncio
import contextlib
import json
import os
import re
import signal
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bridge.cli.errors import ExitStatus
from erlang_port.handshake import Handshake, HandshakeError, WrongSecret, read_secret
from erlang_port.transports.sockets import Endpoint, connect
from tests.e2e import support
from tests.e2e.sidecars import starting, write_secret


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("sidecars")


@pytest.fixture(scope="module")
def node(start_session_node, place):
    """A node that waits for sidecars at a Unix socket."""
    found = start_session_node()
    secret = write_secret(place / "secret")
    support.attach(found, sidecar={"socket": str(place / "node.sock"), "secret_file": str(secret)})
    return found


@pytest.fixture
def sidecar(node, place):  # noqa: ARG001 - it is what they connect to
    """Starts sidecars; they are gone at the end."""
    with starting(
        place,
        MEGAPHONE_SIDECAR__SOCKET=str(place / "node.sock"),
        MEGAPHONE_SIDECAR__SECRET_FILE=str(place / "secret"),
    ) as start:
        yield start


def sidecars(node):
    """The node's part about sidecars; asks no Python."""
    return support.evaluated(node, "megaphone_commands:node_status()")["sidecars"]


def active(node):
    """The identity of the active one, once its hello has come."""
    if support.port(node)[0] != "connected":
        return None
    return next(one["identity"] for one in sidecars(node)["connected"] if one["state"] == "active")


async def connected(sidecar):
    """Waits until a sidecar is the active one and can format."""

    def formats():
        found = sidecar.status()
        workers = (found.get("bridge") or {}).get("workers") or []
        ready = any(worker["state"] == "idle" for worker in workers)
        return found if ready and found["port"]["state"] == "connected" else None

    return await support.until(formats, 30, pause=0.1)


async def standing_by(sidecar):
    """Waits until a sidecar stands by."""
    await support.until(lambda: sidecar.condition() == "standby", 30, pause=0.1)


async def test_a_sidecar_serves_the_node(node, place, sidecar, xmpp):
    one = sidecar("one")
    found = await connected(one)
    assert found["port"]["transport"] == "unix"
    assert found["bridge"]["sidecar"]["state"] == "active"
    assert [known["state"] for known in found["sidecars"]["connected"]] == ["active"]
    assert stat.S_IMODE((place / "node.sock").stat().st_mode) == 0o660
    assert stat.S_IMODE(one.control.stat().st_mode) == 0o600
    client = await xmpp(node, "alice")
    done = await asyncio.to_thread(one.cli, "broadcast", "Hello {{ user }} ☎", "--watch", "--json")
    assert done.returncode == ExitStatus.OK, done.stderr
    assert json.loads(done.stdout)["sent"] == 1
    (message,) = await client.wait_for(1)
    assert message["body"] == "Hello alice ☎"
    refused = await asyncio.to_thread(one.cli, "broadcast", "Hello {{ user")
    assert refused.returncode == ExitStatus.REFUSED
    assert "template" in refused.stderr
    assert one.stop() == 0
    assert not one.control.exists()
    await support.until(lambda: support.port(node)[0] == "waiting")


async def test_who_stands_by_takes_over_and_nobody_gets_anything_twice(node, sidecar, xmpp):
    """The active one is killed in the middle of a broadcast."""
    one = sidecar("first", MEGAPHONE_SIDECAR__IDENTITY="first")
    await connected(one)
    two = sidecar("second", MEGAPHONE_SIDECAR__IDENTITY="second")
    await standing_by(two)
    clients = [await xmpp(node, user) for user in ("alice", "bob", "carol")]
    broadcast = await asyncio.to_thread(support.start_broadcast, node, support.SLOW)
    await support.until(lambda: support.broadcast_status(node, broadcast)["state"] == "running")
    begun = time.monotonic()
    one.kill()
    assert await support.until(lambda: active(node) == "second", 3)
    assert time.monotonic() - begun < 3
    ended = await support.ended(node, broadcast)
    assert (ended["state"], ended["sent"]) == ("done", 3)
    for client, user in zip(clients, ("alice", "bob", "carol"), strict=True):
        (message,) = await client.wait_for(1)
        assert message["body"] == f"for {user}"
        assert len(client.messages) == 1
    # It comes back, and stands by now.
    one.start()
    await standing_by(one)
    assert active(node) == "second"


async def test_one_that_hangs_is_fenced(node, sidecar):
    """The node cannot kill it: the other one has a higher epoch, and it stands by when it wakes."""
    one = sidecar("hangs", MEGAPHONE_SIDECAR__IDENTITY="hangs")
    before = (await connected(one))["sidecars"]["epoch"]
    two = sidecar("awake", MEGAPHONE_SIDECAR__IDENTITY="awake")
    await standing_by(two)
    os.kill(one.process.pid, signal.SIGSTOP)
    begun = time.monotonic()
    try:
        assert await support.until(lambda: active(node) == "awake", 10)
        took = time.monotonic() - begun
    finally:
        os.kill(one.process.pid, signal.SIGCONT)
    # Two heartbeats and a look every half of one; a busy machine may take its time to show it.
    assert took < 5
    await standing_by(one)
    assert sidecars(node)["epoch"] == before + 1
    assert (one.directory / "state/epoch").read_text() == f"{before}\n"
    assert (two.directory / "state/epoch").read_text() == f"{before + 1}\n"
    refused = await asyncio.to_thread(one.cli, "broadcast", "from one that was replaced")
    assert refused.returncode == ExitStatus.NODE_NOT_RUNNING
    assert "cannot be asked" in refused.stderr


async def test_the_node_goes_and_comes_back(start_node, place, sidecar):
    """A sidecar outlives its node, and is ready again without anybody's doing."""
    own = start_node()
    options = {"socket": str(place / "own.sock"), "secret_file": str(place / "secret")}
    support.attach(own, sidecar=options)
    one = sidecar("outlives", MEGAPHONE_SIDECAR__SOCKET=options["socket"])
    first = await connected(one)
    url = first["bridge"]["http"]
    assert support.get(f"{url}/readyz") == (200, b"ready\n")
    own.kill()
    status, body = await support.until(
        lambda: (found := support.get(f"{url}/readyz"))[0] == 503 and found
    )
    assert status == 503
    assert b"not connected to unix:" in body
    assert support.get(f"{url}/healthz") == (200, b"ok\n")
    # The socket that the killed node has left is in nobody's way.
    assert stat.S_ISSOCK((place / "own.sock").stat().st_mode)
    own.start()
    again = await connected(one)
    assert again["bridge"]["pid"] == first["bridge"]["pid"]
    assert again["sidecars"]["epoch"] > first["sidecars"]["epoch"]


async def test_a_wrong_secret_is_told_on_both_sides_and_mended_without_a_restart(
    node, place, sidecar
):
    wrong = write_secret(place / "wrong.secret")
    one = sidecar("wrong", MEGAPHONE_SIDECAR__SECRET_FILE=str(wrong))
    await one.until_logged("the secrets of the node and of the sidecar differ")
    assert (await support.until(lambda: sidecars(node)))["connected"] == []
    told = await asyncio.to_thread(one.cli, "status")
    assert told.returncode == ExitStatus.PORT_PROGRAM_DOWN
    assert "the secrets of the node and of the sidecar differ" in " ".join(told.stdout.split())
    assert node.log().count("its secret is not that of sidecar.secret_file") == 1
    wrong.write_text((place / "secret").read_text())
    await connected(one)


async def test_five_wrong_secrets_lock_an_address_out(node, place, sidecar):
    """Who stands by or is active stays; a right secret from there has to wait, too."""
    one = sidecar("before")
    await connected(one)
    endpoint = Endpoint(path=str(place / "node.sock"))

    async def attempt(secret):
        await connect(endpoint, Handshake(secret, "guesses", bytes(16), 0))

    async def guesses():
        for _ in range(6):
            with contextlib.suppress(WrongSecret):
                await attempt(b"g" * 32)

    # The test before has had one, perhaps.
    with pytest.raises(HandshakeError, match="too many wrong secrets came from this address"):
        await guesses()
    with pytest.raises(HandshakeError, match="too many wrong secrets came from this address"):
        await attempt(read_secret(place / "secret"))
    await support.until(lambda: "its address is locked out for a minute" in node.log())
    assert active(node) is not None
    # Not a test of patience: the end of the lock-out is a unit test's.
    node.eval("megaphone_sidecars_sup:restart()")
    await connected(one)


async def test_bad_files_end_it_with_one_line(place, sidecar):
    no_secret = sidecar("none", MEGAPHONE_SIDECAR__SECRET_FILE=str(place / "nowhere"))
    await no_secret.until_logged("is not there: make one with 'openssl rand -hex 32")
    taken = sidecar("taken", MEGAPHONE_SIDECAR__STATE_DIR=str(place / "none/state"))
    assert taken.process.wait(20) == 1
    assert re.fullmatch(
        r"megaphone: state: \S+ is another sidecar's, which runs: give each a sidecar.state_dir of"
        r" its own\n",
        taken.log.read_text(),
    )


async def test_the_same_identity_twice(node, sidecar):
    one = sidecar("original", MEGAPHONE_SIDECAR__IDENTITY="same")
    await connected(one)
    two = sidecar("copy", MEGAPHONE_SIDECAR__IDENTITY="same")
    await two.until_logged("a sidecar named same is connected already, from the Unix socket")
    assert active(node) == "same"
    assert len(sidecars(node)["connected"]) == 1
    # With the end of the first one it is no copy any more.
    assert one.stop() == 0
    await connected(two)


async def test_a_clock_an_hour_off_does_not_matter(node, sidecar):
    library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
    if not Path(library).exists():
        assert not os.environ.get("CI"), "faketime is missing"
        pytest.skip("faketime is not installed")
    one = sidecar("late", LD_PRELOAD=library, FAKETIME="-1h", FAKETIME_DONT_FAKE_MONOTONIC="1")
    found = await connected(one)
    assert found["bridge"]["sidecar"]["state"] == "active"
    said = re.search(r"^(\S+Z) \[info\] megaphone.sidecar", one.log.read_text(), re.MULTILINE)[1]
    behind = datetime.now(UTC) - datetime.fromisoformat(said)
    assert behind > timedelta(minutes=59)
    assert active(node) == found["bridge"]["sidecar"]["identity"]
