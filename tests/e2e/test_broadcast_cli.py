"""`megaphone broadcast` from the command line to real clients."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import pytest

from bridge.attach import installation
from bridge.attach.installation import AttachRequest
from bridge.cli.errors import ExitStatus


@pytest.fixture(scope="module")
def attached_node(start_session_node):
    node = start_session_node(
        hosts=("localhost", "a.test"), environment={"MEGAPHONE_HTTP__PORT": "0"}
    )
    request = AttachRequest(ejabberdctl=str(node.ejabberdctl))
    installation.attach(request, installation.plan(request), print)
    return node


async def broadcast(node, *arguments, locale="C"):
    environment = {name: value for name, value in os.environ.items() if name[:3] != "LC_"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge.cli.main", "broadcast"),
        *("--ejabberdctl", str(node.ejabberdctl), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**environment, "LANG": locale},
    )
    async with asyncio.timeout(60):
        output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
async def test_each_client_gets_its_own_text(attached_node, xmpp, locale):
    clients = [await xmpp(attached_node, user) for user in ("alice", "zoë")]
    status, output, errors = await broadcast(
        attached_node,
        *("Zoë 👋 {{ user }} <b>", "--subject", "Für {{ user }}", "--watch", "--json"),
        locale=locale,
    )
    assert status == ExitStatus.OK, errors
    ended = json.loads(output)
    assert (ended["state"], ended["sent"]) == ("done", 2)
    for client, user in zip(clients, ("alice", "zoë"), strict=True):
        (message,) = await client.wait_for(1)
        assert message["body"] == f"Zoë 👋 {user} <b>"
        assert message["subject"] == f"Für {user}"


async def test_one_virtual_host(attached_node, xmpp):
    here = await xmpp(attached_node, "alice")
    there = await xmpp(attached_node, "bob", "a.test")
    status, output, errors = await broadcast(
        attached_node, "Only {{ server }}", "--to", "online@a.test", "--watch"
    )
    assert status == ExitStatus.OK, errors
    assert "done" in output
    await there.wait_for(1)
    assert there.bodies == ["Only a.test"]
    await here.ping()
    assert here.messages == []


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("{{ user",), "template"),
        (("a", "--to", "everybody"), "to"),
        (("a", "--type", "groupchat"), "type"),
        (("a", "--from", "@@"), "from"),
        (("a", "--subject", "{% for %}"), "subject"),
    ],
)
async def test_a_bad_request_is_refused_with_its_field(attached_node, arguments, field):
    status, output, errors = await broadcast(attached_node, *arguments)
    assert (status, output) == (ExitStatus.REFUSED, "")
    assert errors.startswith(f"megaphone: {field}: ")
    assert errors.count("\n") == 1


async def test_a_broadcast_that_fails_later(attached_node, xmpp):
    await xmpp(attached_node, "alice")
    status, output, errors = await broadcast(
        attached_node, "{% for x in range(99999) %}{{ 9**9**7 }}{% endfor %}", "--watch"
    )
    assert status in {ExitStatus.FAILURE, ExitStatus.REFUSED}, output + errors
    assert errors.splitlines()[-1].startswith("megaphone: ")


async def test_nobody_online(attached_node):
    status, output, errors = await broadcast(attached_node, "Hello", "--watch", "--json")
    assert status == ExitStatus.OK, errors
    ended = json.loads(output)
    assert (ended["state"], ended["recipients"]) == ("done", 0)
