from __future__ import annotations

import pytest

from bridge.attach import health
from bridge.attach.health import Health


def document(state="connected", worker="idle", reason=None):
    return {
        "node": {"version": "1.0"},
        "port": {"state": state, "reason": reason},
        "bridge": {"workers": [{"state": worker}]},
    }


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (document(), Health(connected=True, down=False, reason="", version="1.0")),
        (document(worker="busy"), Health(connected=True, down=False, reason="", version="1.0")),
        (
            document(worker="starting"),
            Health(False, False, "the port program answers, but no worker is ready", "1.0"),
        ),
        (document("down", reason="x"), Health(False, True, "the port is down: x", "1.0")),
        (document("backing_off"), Health(False, False, "the port is backing_off", "1.0")),
        ({}, Health(False, False, "the port is None", None)),
        ({"port": [], "bridge": 1, "node": None}, Health(False, False, "the port is None", None)),
    ],
)
def test_a_document_is_judged(status, expected):
    assert health.judge(status) == expected


class Scripted:
    """An ejabberdctl whose answers are known."""

    def __init__(self, *answers):
        self._answers = list(answers)

    def json(self, *_command):
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def test_waiting_ends_with_a_ready_worker(monkeypatch):
    monkeypatch.setattr(health, "POLL_INTERVAL", 0)
    answers = (document("starting"), document("backing_off"), document(worker="starting"))
    judged, status = health.wait(Scripted(*answers, document()), 30)
    assert judged.connected
    assert status == document()


def test_waiting_ends_when_the_node_gives_up(monkeypatch):
    monkeypatch.setattr(health, "POLL_INTERVAL", 0)
    judged, _ = health.wait(Scripted(document("starting"), document("down", reason="x")), 30)
    assert judged.down


def test_waiting_ends_in_time():
    judged, _ = health.wait(Scripted(document("starting")), 0)
    assert not judged.connected


def waiting(listening="unix:/run/node.sock", error=None, reason=None):
    sidecars = {"listening": listening, "error": error}
    return document("waiting", reason=reason) | {"sidecars": sidecars}


@pytest.mark.parametrize(
    ("status", "reason", "listens"),
    [
        (waiting(), "the node waits for one at unix:/run/node.sock", True),
        (waiting(reason="gone"), "at unix:/run/node.sock; the last one: gone", True),
        (waiting(None, "sidecar.socket: cannot listen"), "sidecar.socket: cannot listen", False),
        (document("waiting") | {"sidecars": []}, "the node waits for one at None", False),
    ],
)
def test_a_node_that_waits_for_a_sidecar(status, reason, listens):
    found = health.judge(status)
    # That it cannot listen is nothing to wait for.
    down = status["sidecars"] != [] and status["sidecars"]["error"] is not None
    assert (found.connected, found.down, found.waiting) == (False, down, listens)
    assert found.reason.startswith("no sidecar is connected: ")
    assert found.reason.endswith(reason)


def test_waiting_ends_when_the_node_listens(monkeypatch):
    monkeypatch.setattr(health, "POLL_INTERVAL", 0)
    judged, _ = health.wait(Scripted(document("starting"), waiting(None), waiting()), 30)
    assert judged.waiting
