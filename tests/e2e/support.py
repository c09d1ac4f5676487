"""What the end-to-end tests do to a node again and again."""

import asyncio
import base64
import json
import re
import urllib.error
import urllib.request

from bridge.attach import installation, removal
from bridge.attach.installation import AttachRequest

#: So that two nodes on one machine do not want the same port.
ENVIRONMENT = {"MEGAPHONE_HTTP__PORT": "0"}

#: A template that takes a worker about half a second for each recipient.
SLOW = "{% for a in range(400) %}{% for b in range(20000) %}{% endfor %}{% endfor %}for {{ user }}"


def attach(node, *, python=None, **options):
    request = AttachRequest(ejabberdctl=str(node.ejabberdctl), python=python, options=options)
    return installation.attach(request, installation.plan(request), lambda _: None)


def detach(node):
    return removal.detach(str(node.ejabberdctl), None, lambda _: None)


def command(node, name, *arguments):
    return json.loads(node.ctl(name, *arguments).stdout)


def asked(node, function, *arguments):
    """A command's answer without an ejabberdctl's start, which takes seconds on a busy machine."""
    binaries = ", ".join(
        f'base64:decode("{base64.b64encode(argument.encode()).decode()}")' for argument in arguments
    )
    shown = node.eval(
        f"base64:encode_to_string(list_to_binary(megaphone_commands:{function}({binaries})))",
        # A template is tried by a worker, and the one that is asked may be stopped.
        timeout=30,
    )
    return json.loads(base64.b64decode(shown.strip('"')))


def evaluated(node, expression):
    """The value of an expression, one that megaphone_json can write."""
    shown = node.eval(
        f"base64:encode_to_string(iolist_to_binary(megaphone_json:encode({expression})))"
    )
    return json.loads(base64.b64decode(shown.strip('"')))


def status(node):
    return asked(node, "status")


def start_broadcast(node, template, **request):
    answer = asked(node, "broadcast", json.dumps({"template": template, "to": "online", **request}))
    assert answer.get("error") is None, answer
    return answer["id"]


def broadcast_status(node, broadcast):
    return asked(node, "broadcast_status", broadcast)


async def until(condition, timeout=20.0, pause=0.02):
    """Waits until the condition, asked in a thread, is true; returns what it gave."""
    async with asyncio.timeout(timeout):
        while True:
            if result := await asyncio.to_thread(condition):
                return result
            await asyncio.sleep(pause)


async def ended(node, broadcast, timeout=60.0):
    """Waits until a broadcast has ended; its status."""

    def over():
        found = broadcast_status(node, broadcast)
        return found if found["state"] in {"done", "failed"} else None

    return await until(over, timeout, pause=0.2)


def port(node):
    """The state of the port and the port program's pid; does not ask Python."""
    shown = node.eval(
        "begin S = megaphone_port:status(),"
        ' {maps:get(<<"state">>, S), maps:get(<<"os_pid">>, S)} end'
    )
    state, pid = re.fullmatch(r'\{<<"(\w+)">>,(\w+)\}', shown).groups()
    return state, pid


def connected(node):
    found = status(node)
    if found["port"]["state"] == "connected" and found.get("bridge"):
        workers = found["bridge"]["workers"]
        if workers and all(worker["state"] != "starting" for worker in workers):
            return found
    return None


def get(url):
    """The status of a GET and its body; (None, b'') when nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None, b""
