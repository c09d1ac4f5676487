"""Fixtures for every test; tests/README.md lists them."""

import asyncio
import contextlib
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.embedded_node import EmbeddedNode, NodeSettings
from tests.support.tools import require_ejabberd
from tests.support.xmpp import Client

#: Lines of each running node's log that a failed test shows.
LOG_LINES = 40

StartNode = Callable[..., EmbeddedNode]
Connect = Callable[..., Awaitable[Client]]

_running: list[EmbeddedNode] = []


def pytest_configure() -> None:
    # What a shell starts in the background ignores SIGINT, and so would all that the tests start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, Any]:
    report = yield
    if report.failed:
        for node in _running:
            tail = "\n".join(node.log().splitlines()[-LOG_LINES:])
            report.sections.append((f"{item.name}: log of {node.name}", tail))
    return report


@contextlib.contextmanager
def _nodes() -> Iterator[StartNode]:
    """A way to start nodes; all of them, and their directories, are gone at the end."""
    require_ejabberd()
    mine: list[EmbeddedNode] = []
    left: dict[str, tuple[int, ...]] = {}

    def start(**settings: Any) -> EmbeddedNode:
        directory = Path(tempfile.mkdtemp(prefix="megaphone-node-"))
        node = EmbeddedNode(directory, NodeSettings(**settings))
        mine.append(node)
        _running.append(node)
        node.start()
        return node

    try:
        yield start
    finally:
        for node in mine:
            _running.remove(node)
            stragglers = node.stop()
            if stragglers:
                left[node.name] = stragglers
            shutil.rmtree(node.directory)
    assert not left, f"processes that outlived their node and were killed: {left}"


@pytest.fixture
def start_node() -> Iterator[StartNode]:
    """`start_node(**settings)` starts a node of the test's own (NodeSettings)."""
    with _nodes() as start:
        yield start


@pytest.fixture(scope="session")
def start_session_node() -> Iterator[StartNode]:
    """As start_node, for fixtures of a wider scope."""
    with _nodes() as start:
        yield start


@pytest.fixture(scope="session")
def embedded_node(start_session_node: StartNode) -> EmbeddedNode:
    """A running node that tests share; leave it as you found it."""
    return start_session_node(hosts=("localhost", "a.test", "b.test"))


@pytest.fixture
async def xmpp() -> AsyncIterator[Connect]:
    """`await xmpp(node, user)` logs in, with an account of its own; logged out after the test."""
    clients: list[Client] = []

    async def connect(
        node: EmbeddedNode,
        user: str,
        host: str | None = None,
        *,
        resource: str | None = None,
        priority: int | None = None,
        carbons: bool = False,
    ) -> Client:
        account = await asyncio.to_thread(node.register, user, host)
        jid = f"{account}/{resource}" if resource else account
        client = Client(jid, EmbeddedNode.PASSWORD, node.c2s_port)
        clients.append(client)
        await client.connect(priority=priority)
        if carbons:
            await client.enable_carbons()
        return client

    yield connect
    await asyncio.gather(*(client.disconnect() for client in clients))
