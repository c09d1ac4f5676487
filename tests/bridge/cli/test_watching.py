from __future__ import annotations

import http.server
import io
import json
import threading

import pytest
from rich.console import Console

from bridge.attach.ejabberdctl import Ejabberdctl
from bridge.cli import watching
from bridge.cli.errors import CommandError, ExitStatus

STATES = [
    {"id": "b1", "state": "resolving", "recipients": 0},
    {"id": "b1", "state": "running", "recipients": 4, "sent": 1, "gone": 1},
    {"id": "b1", "state": "done", "recipients": 4, "sent": 2, "gone": 1, "dropped": 1},
]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(watching, "INTERVAL", 0)


@pytest.fixture
def bridge():
    """A /v1/status that tells one state after another."""
    states = iter(STATES)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            state = next(states, STATES[-1])
            body = json.dumps({"broadcasts": [{"id": "other"}, state]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def follow(*, terminal):
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=80)
    return watching.follow(Ejabberdctl.find(), "b1", console), output.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_it_asks_the_bridge(node, bridge, terminal):
    node.answers("megaphone_status", {"bridge": {"http": bridge}})
    state, output = follow(terminal=terminal)
    assert state == STATES[-1]
    assert "resolving" in output
    assert [call[0] for call in node.calls] == ["megaphone_status"]


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:1", "file:///etc/passwd", 5])
def test_without_a_bridge_it_asks_the_node(node, url):
    node.answers("megaphone_status", {"bridge": {"http": url}})
    node.answers("megaphone_broadcast_status", *STATES)
    state, _ = follow(terminal=True)
    assert state == STATES[-1]
    assert node.calls[-1] == ["megaphone_broadcast_status", "b1"]


def test_a_broadcast_that_the_node_does_not_know(node):
    node.answers("megaphone_status", {})
    node.answers("megaphone_broadcast_status", {"error": {"field": "id", "what": "unknown"}})
    with pytest.raises(CommandError, match="knows no broadcast b1") as caught:
        follow(terminal=False)
    assert caught.value.status == ExitStatus.FAILURE


def test_ctrl_c_leaves_the_broadcast_alone(node, monkeypatch):
    node.answers("megaphone_status", {})

    def interrupt(_self):
        raise KeyboardInterrupt

    monkeypatch.setattr(watching.Follower, "look", interrupt)
    with pytest.raises(CommandError, match="the broadcast b1 goes on") as caught:
        follow(terminal=True)
    assert caught.value.status == ExitStatus.INTERRUPTED


def test_a_short_silence_is_waited_out(node, monkeypatch):
    node.answers("megaphone_status", {})
    answers = [CommandError("busy", "", ExitStatus.TIMEOUT), STATES[-1]]

    def look(_self):
        answer = answers.pop(0)
        if isinstance(answer, CommandError):
            raise answer
        return answer

    monkeypatch.setattr(watching.Follower, "look", look)
    assert follow(terminal=False)[0] == STATES[-1]


def test_a_long_silence_is_an_error(node, monkeypatch):
    node.answers("megaphone_status", {})
    monkeypatch.setattr(watching, "SILENCE", -1)

    def look(_self):
        raise CommandError("busy", "", ExitStatus.TIMEOUT)

    monkeypatch.setattr(watching.Follower, "look", look)
    with pytest.raises(CommandError, match="busy"):
        follow(terminal=False)


def test_every_fate_counts():
    assert watching.treated(STATES[-1]) == 4
    assert watching.treated({"sent": None}) == 0
