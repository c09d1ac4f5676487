"""Sessions and stanzas as /metrics counts them, with real clients."""

import asyncio
import xml.etree.ElementTree as ET

import pytest

from tests.e2e.metrics import attached_url, scraped, scraped_until
from tests.e2e.support import ENVIRONMENT, attach

RECONCILIATIONS = "megaphone_session_reconciliations_total"


@pytest.fixture(scope="module")
def node(start_session_node):
    node = start_session_node(hosts=("localhost", "a.test"), environment=ENVIRONMENT)
    # No reconciliation but those that a test asks for.
    attach(node, reconciliation_interval=3600)
    return node


@pytest.fixture
async def url(node):
    url = await attached_url(node)
    await scraped_until(
        url, lambda scrape: scrape.get("megaphone_sessions", "localhost") is not None
    )
    return url


async def reconciled(node, url):
    """Has the sessions looked for; a scrape that shows what came of it."""
    before = scraped(url)[RECONCILIATIONS]
    await asyncio.to_thread(node.eval, "megaphone_sampler:soon(sessions)")
    return await scraped_until(url, lambda scrape: scrape[RECONCILIATIONS] > before)


def sessions(vhost, count):
    return lambda scrape: scrape["megaphone_sessions", vhost] == count


async def test_logins_and_logouts(node, url, xmpp):
    before = scraped(url)
    clients = [await xmpp(node, "alice", resource=str(n)) for n in range(3)]
    there = await xmpp(node, "bob", "a.test")
    during = scraped(url)
    assert during["megaphone_sessions", "localhost"] == 3
    assert during["megaphone_sessions", "a.test"] == 1
    assert during["megaphone_logins_total"] == before["megaphone_logins_total"] + 4
    await clients[0].disconnect()
    await there.disconnect()
    after = await scraped_until(url, sessions("a.test", 0))
    after = await scraped_until(url, sessions("localhost", 2))
    assert after["megaphone_logouts_total"] == before["megaphone_logouts_total"] + 2
    # A login with a resource that is taken replaces the session that has it.
    await xmpp(node, "alice", resource="1")
    await clients[1].wait_disconnected()
    after = await scraped_until(url, sessions("localhost", 2))
    assert after["megaphone_logins_total"] == before["megaphone_logins_total"] + 5
    after = await reconciled(node, url)
    assert (after["megaphone_session_drift"], after["megaphone_session_rows_dead"]) == (0, 0)
    assert after["megaphone_sessions", "localhost"] == 2


async def test_a_session_whose_process_is_killed(node, url, xmpp):
    await scraped_until(url, sessions("localhost", 0))
    await xmpp(node, "carol", resource="phone")
    killed = await xmpp(node, "dave", resource="phone")
    node.eval('exit(ejabberd_sm:get_session_pid(<<"dave">>, <<"localhost">>, <<"phone">>), kill)')
    await killed.wait_disconnected()
    # No hook has run, and the row is still there.
    assert scraped(url)["megaphone_sessions", "localhost"] == 2
    found = await reconciled(node, url)
    assert (found["megaphone_session_drift"], found["megaphone_session_rows_dead"]) == (1, 1)
    assert found["megaphone_sessions", "localhost"] == 1
    # ejabberd removes the row when it comes across it.
    node.eval('ejabberd_sm:get_session_pid(<<"dave">>, <<"localhost">>, <<"phone">>)')
    found = await reconciled(node, url)
    assert (found["megaphone_session_drift"], found["megaphone_session_rows_dead"]) == (0, 0)
    assert found["megaphone_sessions", "localhost"] == 1
    # The other way round: the row is gone before anybody has looked.
    await xmpp(node, "dave", resource="phone")
    node.eval(
        'begin Find = fun() -> ejabberd_sm:get_session_pid(<<"dave">>, <<"localhost">>,'
        ' <<"phone">>) end, Pid = Find(), Monitor = monitor(process, Pid), exit(Pid, kill),'
        " receive {'DOWN', Monitor, _, _, _} -> Find() end end"
    )
    found = await reconciled(node, url)
    assert (found["megaphone_session_drift"], found["megaphone_session_rows_dead"]) == (1, 0)
    assert found["megaphone_sessions", "localhost"] == 1


async def test_stanzas_both_ways(node, url, xmpp):
    alice = await xmpp(node, "alice", resource="phone")
    bob = await xmpp(node, "bob", resource="phone")
    await alice.ping()
    before = scraped(url)
    for _ in range(5):
        alice.stream.send_message(bob.jid, "hello", mtype="chat")
    alice.stream.send_presence(pshow="away")
    await bob.wait_for(5)
    await alice.ping()
    after = scraped(url)

    def more(direction, kind):
        key = ("megaphone_stanzas_total", direction, kind)
        return after[key] - before[key]

    assert more("in", "message") == 5
    assert more("out", "message") == 5
    assert more("in", "presence") == 1
    # The server reflects it to the client itself.
    assert more("out", "presence") == 1
    assert more("in", "iq") == 1
    assert more("out", "iq") == 1


async def test_stored_for_who_is_offline_and_nothing_else(node, url, xmpp):
    node.register("absent")
    alice = await xmpp(node, "alice", resource="phone")
    stored = "megaphone_offline_messages_stored_total"
    before = scraped(url)[stored]
    for n in range(3):
        alice.stream.send_message("absent@localhost", f"later {n}", mtype="chat")
    # A headline is not stored, nor what says that it is not to be.
    alice.stream.send_message("absent@localhost", "now", mtype="headline")
    transient = alice.stream.make_message("absent@localhost", "transient", mtype="chat")
    transient.xml.append(ET.Element("{urn:xmpp:hints}no-store"))
    transient.send()
    # Nor what is for nobody: it comes back.
    alice.stream.send_message("nobody-there@localhost", "lost", mtype="chat")
    await alice.wait_until(lambda: any(m["type"] == "error" for m in alice.messages))
    await alice.ping()
    assert scraped(url)[stored] == before + 3
    absent = await xmpp(node, "absent")
    assert len(await absent.wait_for(3)) == 3


async def test_who_was_there_before_the_module(start_node, xmpp):
    node = start_node(environment=ENVIRONMENT)
    clients = [await xmpp(node, "alice", resource=str(n)) for n in range(4)]
    await asyncio.to_thread(attach, node)
    url = await attached_url(node)
    await scraped_until(url, sessions("localhost", 4))
    await clients[0].disconnect()
    await scraped_until(url, sessions("localhost", 3))


async def test_many_vhosts_are_few_series(start_node, xmpp):
    """The label is whatever the vhost is called; what goes beyond ten is told together."""
    odd = "bücher.test"
    hosts = ("localhost", odd, *(f"vhost-{n}.test" for n in range(38)))
    node = start_node(hosts=hosts, environment=ENVIRONMENT)
    await asyncio.to_thread(attach, node)
    url = await attached_url(node)
    for n in range(2):
        await xmpp(node, "alice", odd, resource=str(n))
    await xmpp(node, "bob", "vhost-3.test")

    def counted(scrape):
        return scrape.get("megaphone_sessions", odd) == 2

    scrape = await scraped_until(url, counted)
    shown = {key[1]: n for key, n in scrape.values.items() if key[0] == "megaphone_sessions"}
    assert len(shown) == 10
    assert (shown[odd], shown["vhost-3.test"], shown["other"]) == (2, 1, 0)
    detailed = scraped(url, "/metrics/detailed")
    name = "megaphone_detailed_sessions"
    assert {key[1]: n for key, n in detailed.values.items() if key[0] == name} == {
        **dict.fromkeys(hosts, 0),
        odd: 2,
        "vhost-3.test": 1,
    }
