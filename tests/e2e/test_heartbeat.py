"""The pipeline heartbeat on a live node, and what the metrics say while a part of it is down."""

import asyncio
import contextlib
import os
import signal
import time

import pytest

from tests.e2e.metrics import attached_url, scraped, scraped_until
from tests.e2e.support import attach, connected, ended, port, start_broadcast, until

OUTCOMES = "megaphone_pipeline_heartbeats_total"
AGE = "megaphone_pipeline_heartbeat_age_seconds"


@pytest.fixture(scope="module")
def node(start_session_node):
    node = start_session_node(
        environment={"MEGAPHONE_HTTP__PORT": "0", "MEGAPHONE_WORKERS__COUNT": "1"}
    )
    attach(
        node,
        pipeline_heartbeat_interval=1,
        heartbeat_interval=1,
        heartbeat_timeout=5,
    )
    return node


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        # A worker may have been killed and replaced meanwhile.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


async def test_it_goes_the_whole_way_again_and_again(node):
    url = await attached_url(node)
    before = scraped(url)
    after = await scraped_until(
        url, lambda scrape: scrape[OUTCOMES, "done"] >= before[OUTCOMES, "done"] + 5
    )
    assert after[OUTCOMES, "lost"] == after[OUTCOMES, "failed"] == 0
    assert after[AGE] < 5
    # As many were measured as came back.
    assert after["megaphone_pipeline_heartbeat_seconds_count"] == after[OUTCOMES, "done"]
    # The program leaves them out of its own counts.
    assert after["megaphone_batches_total", "done"] == before["megaphone_batches_total", "done"]


async def test_a_worker_that_is_stopped_is_seen(node):
    url = await attached_url(node)
    (worker,) = connected(node)["bridge"]["workers"]
    before = scraped(url)
    with stopped(worker["pid"]):
        await scraped_until(url, lambda scrape: scrape[AGE] > 2)
        # It is lost in the end; the worker is killed at its batch's deadline, and replaced.
        gone = await scraped_until(
            url,
            lambda s: s[OUTCOMES, "lost"] + s[OUTCOMES, "failed"] > 0,
            timeout=40,
        )
        assert gone[OUTCOMES, "done"] <= before[OUTCOMES, "done"] + 1
        await scraped_until(
            url, lambda scrape: scrape[OUTCOMES, "done"] > gone[OUTCOMES, "done"], timeout=40
        )


async def test_broadcasts_are_not_held_up(node, xmpp):
    await attached_url(node)
    client = await xmpp(node, "alice", resource="phone")
    for n in range(5):
        broadcast = await asyncio.to_thread(start_broadcast, node, f"{n} for {{{{ user }}}}")
        assert (await ended(node, broadcast))["sent"] == 1
    await client.wait_for(5)
    await client.ping()
    # And nobody ever gets one.
    assert client.bodies == [f"{n} for alice" for n in range(5)]


async def test_a_node_that_does_not_answer_is_down_at_once_and_up_again(node):
    """Only its answer is missing: the heartbeats of the port go on."""
    url = await attached_url(node)
    node.eval("sys:suspend(megaphone_port)")
    try:
        begun = time.monotonic()
        scrape = await asyncio.to_thread(scraped, url)
        assert time.monotonic() - begun < 3
        assert scrape["megaphone_up"] == 0
        names = {name for name, *_ in scrape.values}
        assert not {"megaphone_sessions", "megaphone_vm_processes", OUTCOMES} & names
        assert scrape["megaphone_workers", "idle"] == 1
    finally:
        node.eval("sys:resume(megaphone_port)")
    await scraped_until(url, lambda scrape: scrape["megaphone_up"] == 1)


async def test_scrapes_at_once_while_the_node_is_stopped(node):
    url = await attached_url(node)
    with stopped(node.pid):
        begun = time.monotonic()
        scrapes = await asyncio.gather(*(asyncio.to_thread(scraped, url) for _ in range(5)))
        assert time.monotonic() - begun < 4
    assert [scrape["megaphone_up"] for scrape in scrapes] == [0] * 5
    url = await attached_url(node)
    await scraped_until(url, lambda scrape: scrape["megaphone_up"] == 1)


async def test_the_program_ends_with_the_node_and_is_counted_when_it_is_started_again(node):
    url = await attached_url(node)
    restarts = "megaphone_port_program_restarts_total"
    before = scraped(url)[restarts]
    _, pid = port(node)
    os.kill(int(pid), signal.SIGKILL)
    await until(lambda: port(node)[1] not in {pid, "undefined"})
    url = await attached_url(node)
    assert scraped(url)[restarts] == before + 1
