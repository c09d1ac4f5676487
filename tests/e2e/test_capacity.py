"""`megaphone capacity` on a live node with real clients."""

import asyncio
import json
import subprocess
import sys

import pytest

from metrics.capacity import MIN_CHANGE, USABLE
from tests.e2e.metrics import attached_url, scraped, scraped_until
from tests.e2e.support import ENVIRONMENT, attach

CLIENTS = MIN_CHANGE + 2


@pytest.fixture
def node(start_node):
    node = start_node(environment=ENVIRONMENT)
    attach(node)
    return node


def capacity(node, *words):
    return subprocess.run(
        [
            *(sys.executable, "-m", "bridge.cli.main", "capacity"),
            *("--ejabberdctl", str(node.ejabberdctl), *words),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


async def test_from_the_sessions_that_came_it_says_how_many_there_may_be(node, xmpp):
    url = await attached_url(node)
    # The port program has observed the node without sessions: there is nothing to say yet.
    assert scraped(url).get("megaphone_capacity_sessions", "memory") is None
    assert "Nothing is known yet" in await asyncio.to_thread(capacity, node)
    await asyncio.gather(*(xmpp(node, f"user{n}", resource="phone") for n in range(CLIENTS)))
    await scraped_until(
        url, lambda scrape: scrape.get("megaphone_capacity_sessions", "memory") is not None
    )
    found = json.loads(await asyncio.to_thread(capacity, node, "--json"))["capacity"]
    by_resource = {one["resource"]: one for one in found}
    # Of the processors there is something to say only once they are busy.
    assert by_resource.keys() | {"cpu"} == USABLE.keys()
    assert found == sorted(found, key=lambda one: one["capacity"])
    assert {one["sessions"] for one in found} == {CLIENTS}
    # A client that has logged in is a process at least, and a socket.
    limits = json.loads(
        node.eval(
            'iolist_to_binary(io_lib:format("[~b, ~b]",'
            " [erlang:system_info(process_limit), erlang:system_info(port_limit)]))"
        ).strip('<">')
    )
    for resource, limit in zip(("processes", "ports"), limits, strict=True):
        one = by_resource[resource]
        assert one["limit"] == limit
        assert one["method"] == "trend"
        assert 1 <= one["cost"] < 5
        assert 0.1 * limit < one["capacity"] <= limit
    assert 1_000 < by_resource["memory"]["cost"] < 50_000_000
    shown = await asyncio.to_thread(capacity, node)
    assert f"{CLIENTS} sessions" in shown
    assert "ends first" in shown
