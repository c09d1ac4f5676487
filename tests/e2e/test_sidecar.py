"""Sidecars beside a real node: connected, killed, replaced; broadcasts from their own socket."""

import asyncio
import json
import stat

import pytest

from bridge.cli.errors import ExitStatus
from tests.e2e import support
from tests.e2e.sidecars import Sidecar, write_secret


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
def sidecar(node, place):
    """Starts sidecars; they are gone at the end."""
    started = []

    def start(name, **environment):
        defaults = {
            "MEGAPHONE_SIDECAR__SOCKET": str(place / "node.sock"),
            "MEGAPHONE_SIDECAR__SECRET_FILE": str(place / "secret"),
        }
        one = Sidecar(place / name, {**defaults, **environment})
        started.append(one)
        return one.start()

    yield start
    for one in started:
        if one.process.poll() is None:
            one.stop()


def epoch(node):
    return support.status(node)["sidecars"]["epoch"]


async def connected(node, sidecar):
    """Waits until a sidecar is the active one and can format."""

    def active():
        found = sidecar.status()
        ready = any(
            worker["state"] == "idle"
            for worker in (found.get("bridge") or {"workers": []})["workers"]
        )
        return found if found and found["port"]["state"] == "connected" and ready else None

    return await support.until(active, 30, pause=0.1)


async def test_a_sidecar_serves_the_node(node, place, sidecar, xmpp):
    one = sidecar("one")
    found = await connected(node, one)
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
