"""What begins and ends with a turn; as a whole program in test_main.py."""

import asyncio

import pytest

from bridge import config
from bridge.sidecar.notify import Notifier
from bridge.sidecar.state import State
from bridge.sidecar.way import SidecarWay, _Attached
from erlang_port.otp import supervisor
from erlang_port.otp.child_spec import ChildSpec
from erlang_port.otp.coroutine_child import coroutine_child
from erlang_port.otp.supervisor import Flags, Tree
from erlang_port.transports.fds import PortConnection


class Node:
    def __init__(self, told):
        self.told = told

    def disconnected(self):
        self.told.append("disconnected")


class Megaphone:
    """What of the application a way uses, with a supervisor of its own."""

    def __init__(self, *, with_servers=True):
        self.told = []
        self.pool = self
        self.port = PortConnection(name="sidecar", version="1")
        self.top = None
        self.stands = asyncio.Event()
        self._with_servers = with_servers

    async def start(self):
        self.top = await supervisor.start(Tree("top", Flags(), []))
        self.stands.set()

    async def up(self):
        await self.stands.wait()
        return self.top

    def attach(self, peer):
        self.told.append(f"attached to {peer}")
        return Node(self.told)

    def forget(self):
        self.told.append("forgotten")

    def servers(self) -> ChildSpec | None:
        return coroutine_child("servers", self._serve) if self._with_servers else None

    async def _serve(self, started):
        started()
        self.told.append("servers")
        try:
            await asyncio.Event().wait()
        finally:
            self.told.append("no servers")


async def test_servers_live_as_long_as_a_turn():
    megaphone = Megaphone()
    await megaphone.start()
    attached = _Attached(megaphone)
    for peer in ("one", "two"):
        await attached.attached(peer)
        assert [child.id for child in await supervisor.which_children(megaphone.top)] == ["servers"]
        await attached.detached()
        assert await supervisor.which_children(megaphone.top) == []
        assert megaphone.told == [
            *(f"attached to {peer}", "servers", "forgotten", "disconnected", "no servers")
        ]
        megaphone.told.clear()


async def test_a_turn_before_the_tree_stands_waits_for_it():
    megaphone = Megaphone()
    attaching = asyncio.create_task(_Attached(megaphone).attached("one"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert megaphone.told == ["attached to one"]
    await megaphone.start()
    await asyncio.wait_for(attaching, 5)
    assert megaphone.told == ["attached to one", "servers"]


async def test_without_servers_and_without_a_turn():
    megaphone = Megaphone(with_servers=False)
    attached = _Attached(megaphone)
    await attached.detached()
    assert megaphone.told == ["forgotten"]
    await attached.attached("one")
    await attached.detached()
    await attached.detached()
    assert megaphone.told[1:] == ["attached to one", "forgotten", "disconnected", "forgotten"]


@pytest.fixture
def way(tmp_path, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    settings = config.Sidecar(socket=tmp_path / "node.sock", secret_file=tmp_path / "secret")
    state = State.open(tmp_path / "state", "one")
    yield SidecarWay(settings, state, Notifier())
    state.close()


async def test_before_it_is_started_there_is_nothing_to_tell(way):
    megaphone = Megaphone()
    assert way.reasons(megaphone.port) == []
    assert way.status() is None
    assert not way.standing_by()


async def test_standing_by_is_ready_and_connecting_is_not(way):
    megaphone = Megaphone()
    assert way.child(megaphone).id == "port"
    connector = way._connector
    assert "the first attempt has not ended" in way.reasons(megaphone.port)[0]
    assert not way.standing_by()
    connector.condition, connector.error = "standby", None
    assert way.reasons(megaphone.port) == []
    assert way.standing_by()
    assert way.status()["state"] == "standby"
    connector.condition = "active"
    assert not way.standing_by()
