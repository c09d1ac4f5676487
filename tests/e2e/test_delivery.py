"""What reaches whom: archives, carbons, resources, templates that fail, text that XML forbids."""

import asyncio
import json
import re

import pytest

from tests.e2e.support import (
    ENVIRONMENT,
    attach,
    command,
    connected,
    ended,
    get,
    start_broadcast,
    status,
    until,
)
from tests.support.logs import errors, log

ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture(scope="module")
def node(start_session_node):
    node = start_session_node(
        modules={"mod_mam": {"default": "always"}, "mod_carboncopy": {}, "mod_offline": {}},
        environment={
            **ENVIRONMENT,
            "MEGAPHONE_WORKERS__BATCH_TIMEOUT": "1",
            "MEGAPHONE_WORKERS__MAX_RETRIES": "1",
        },
    )
    attach(node)
    return node


@pytest.fixture(autouse=True)
async def ready(node):
    await until(lambda: connected(node))


@pytest.mark.parametrize("kind", ["headline", "chat", "normal"])
async def test_one_copy_each_with_archive_carbons_and_two_resources(node, xmpp, kind):
    before = errors(log(node))
    sessions = [
        await xmpp(node, "alice", resource="phone", carbons=True),
        await xmpp(node, "alice", resource="desk", carbons=True),
        await xmpp(node, "bob", resource="phone", carbons=True),
    ]
    broadcast = await asyncio.to_thread(
        start_broadcast, node, f"{kind} for {{{{ user }}}}", type=kind
    )
    found = await ended(node, broadcast)
    accounts, way = (3, "session") if kind == "headline" else (2, "router")
    assert (found["way"], found["sent"]) == (way, accounts)
    for client, user in zip(sessions, ("alice", "alice", "bob"), strict=True):
        await client.wait_for(1)
        await client.ping()
        assert len(client.messages) == 1
        assert f"{kind} for {user}" in str(client.messages[0])
    assert errors(log(node)) == before


async def test_the_id_is_the_broadcasts_and_the_sender_the_recipients_host(node, xmpp):
    alice = await xmpp(node, "alice")
    broadcast = await asyncio.to_thread(start_broadcast, node, "x", subject="S {{ user }}")
    (message,) = await alice.wait_for(1)
    assert message["id"].startswith(f"{broadcast}-")
    assert message["from"] == "localhost"
    assert message["type"] == "headline"
    assert message["subject"] == "S alice"


async def test_text_is_escaped_once(node, xmpp):
    alice = await xmpp(node, "alice")
    text = "<b>&amp; \"é\" 'ß' ]]> \U0001f44b {{ user }}"
    await asyncio.to_thread(start_broadcast, node, text)
    (message,) = await alice.wait_for(1)
    assert message["body"] == text.replace("{{ user }}", "alice")


async def test_a_text_that_xml_forbids_is_dropped_and_shifts_nobody_elses(node, xmpp):
    clients = [await xmpp(node, user) for user in ("amy", "ben", "cleo")]
    bad = "{% if user == 'ben' %}{{ '%c' % 0 }}{{ '%c' % 1 }}{% endif %}for {{ user }}"
    broadcast = await asyncio.to_thread(start_broadcast, node, bad)
    found = await ended(node, broadcast)
    assert (found["sent"], found["dropped"]) == (2, 1)
    for client, bodies in zip(clients, (["for amy"], [], ["for cleo"]), strict=True):
        await client.wait_for(len(bodies))
        await client.ping()
        assert client.bodies == bodies


@pytest.mark.parametrize(
    "template",
    [
        f"{{% if user == 'dora' %}}{ENDLESS}{{% endif %}}x",
        "{% if user == 'dora' %}{{ (user * 33333333) * 99 }}{% endif %}x",
    ],
    ids=["never ends", "1 GB"],
)
async def test_a_template_that_runs_away_fails_its_broadcast_only(node, xmpp, template):
    dora = await xmpp(node, "dora")
    before = await asyncio.to_thread(status, node)
    broadcast = await asyncio.to_thread(start_broadcast, node, template)
    found = await ended(node, broadcast)
    assert found["sent"] == 0
    if found["state"] == "failed":
        assert found["error"]
    else:
        # Dropped by itself: the template failed for this recipient.
        assert found["dropped"] == 1
    again = await asyncio.to_thread(start_broadcast, node, "for {{ user }}")
    assert (await ended(node, again))["sent"] == 1
    assert [message["body"] for message in await dora.wait_for(1)] == ["for dora"]
    after = await until(lambda: connected(node))
    assert after["port"]["os_pid"] == before["port"]["os_pid"]


@pytest.mark.parametrize(
    "template",
    ["{{ 9**(9**9) }}", ENDLESS, "{{ nobody }}", "{% include 'x' %}", "a \x01"],
)
async def test_a_template_that_can_only_fail_is_refused_before_anything_is_sent(node, template):
    answer = await asyncio.to_thread(
        command, node, "megaphone_broadcast", json.dumps({"template": template, "to": "online"})
    )
    assert answer["error"]["field"] == "template"
    assert answer["error"]["what"]


@pytest.mark.parametrize(
    "request_text",
    [
        "",
        "[]",
        "{",
        '{"template": 5}',
        '{"template": "x"}',
        '{"template": "x", "to": "online", "colour": "red"}',
        '{"template": "x", "to": "online@nowhere"}',
        '{"template": "x", "to": "online", "type": "groupchat"}',
        '{"template": "x", "to": "online", "from": "@"}',
    ],
)
async def test_a_bad_request_gets_one_clear_error(node, request_text):
    answer = await asyncio.to_thread(command, node, "megaphone_broadcast", request_text)
    assert set(answer) == {"error"}
    assert answer["error"]["what"]
    assert answer["error"]["field"]


def told(node, broadcast):
    """What the log has of a broadcast, without times and pids."""
    lines = re.findall(
        rf"(\[\w+\]) \S+ (.* broadcast={broadcast}(?: .*)?)$", log(node), re.MULTILINE
    )
    return [
        re.sub(r"seconds=[\d.]+", "seconds=S", f"{level} {text}".replace(broadcast, "ID"))
        for level, text in lines
    ]


async def test_the_log_tells_what_becomes_of_a_broadcast_and_not_its_text(node, xmpp):
    alice = await xmpp(node, "alice")
    broadcast = await asyncio.to_thread(start_broadcast, node, "quite-secret-words {{ user }}")
    await alice.wait_for(1)
    await ended(node, broadcast)
    begun = [
        "[info] megaphone: a broadcast was accepted broadcast=ID type=headline way=session",
        "[info] megaphone: an audience was resolved broadcast=ID recipients=1 batches=1 seconds=S",
    ]
    over = "megaphone: a broadcast is over broadcast=ID outcome="
    assert told(node, broadcast) == [
        *begun,
        f"[info] {over}done recipients=1 sent=1 gone=0 dropped=0 failed=0 seconds=S",
    ]

    runaway = f"quite-secret-words {{% if user == 'alice' %}}{ENDLESS}{{% endif %}}"
    broadcast = await asyncio.to_thread(start_broadcast, node, runaway)
    await ended(node, broadcast)
    error = '"a batch took longer than a worker may take: the template did not end in time"'
    counts = "recipients=1 sent=0 gone=0 dropped=0 failed=1"
    batch = "broadcast=ID batch=0 reason=timeout"
    assert told(node, broadcast) == [
        *begun,
        f"[warning] megaphone[megaphone.workers] a batch is formatted again {batch} tries=1",
        f"[warning] megaphone[megaphone.workers] a batch failed {batch} tries=2 waiting=0",
        f"[warning] {over}failed {counts} seconds=S error={error}",
    ]
    assert "quite-secret-words" not in log(node)


async def test_http_shows_and_changes_nothing(node):
    url = (await asyncio.to_thread(status, node))["bridge"]["http"]
    assert url.startswith("http://127.0.0.1:")
    assert get(url + "/healthz")[0] == 200
    assert get(url + "/readyz")[0] == 200
    code, body = get(url + "/v1/status")
    assert code == 200
    shown = json.loads(body)
    assert shown["port"]["state"] == "connected"
    assert shown["node"]["ejabberd"]
    code, body = get(url + "/metrics")
    assert code == 200
    assert b"megaphone_" in body
