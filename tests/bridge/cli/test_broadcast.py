from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest

from bridge.attach.ejabberdctl import ARGUMENT_LIMIT
from bridge.cli.errors import ExitStatus

DONE = {"id": "b1", "state": "done", "recipients": 3, "sent": 2, "gone": 1, "seconds": 0.5}


@pytest.fixture
def accepting(node):
    node.answers("megaphone_broadcast", {"id": "b1"})
    node.answers("megaphone_status", {"bridge": {"http": None}})
    node.answers("megaphone_broadcast_status", {"id": "b1", "state": "running"}, DONE)
    return node


def request(node):
    command, argument = next(call for call in node.calls if call[0] == "megaphone_broadcast")
    assert command == "megaphone_broadcast"
    return argument


def test_a_broadcast_is_handed_over(accepting, run):
    status, output, _ = run("broadcast", "Hello {{ user }}", "--subject", "Tea", "--type", "chat")
    assert (status, output) == (ExitStatus.OK, "accepted: broadcast b1\n")
    assert json.loads(request(accepting)) == {
        "template": "Hello {{ user }}",
        "to": "online",
        "subject": "Tea",
        "type": "chat",
    }


def test_the_request_is_ascii_and_means_the_same(accepting, run):
    assert run("broadcast", "Zoë 👋")[0] == ExitStatus.OK
    assert request(accepting).isascii()
    assert json.loads(request(accepting))["template"] == "Zoë 👋"


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8", ""])
def test_the_text_is_utf8_whatever_the_locale(accepting, locale):
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))
    }
    done = subprocess.run(
        (sys.executable, "-m", "bridge.cli.main", "broadcast", "Zoë 👋"),
        env={**environment, "LANG": locale},
        check=False,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(request(accepting))["template"] == "Zoë 👋"


@pytest.mark.usefixtures("accepting")
def test_watching_without_a_terminal(run):
    status, output, errors = run("broadcast", "Hello", "--watch")
    assert status == ExitStatus.OK
    assert "running: 0 of 0" in errors
    assert "b1" in output
    assert "done" in output


@pytest.mark.usefixtures("accepting")
def test_watching_as_json(run):
    status, output, errors = run("broadcast", "Hello", "--watch", "--json")
    assert (status, json.loads(output), errors) == (ExitStatus.OK, DONE, "")


def test_one_that_fails_later(accepting, run):
    failed = {"id": "b1", "state": "failed", "error": "timeout", "sent": 1}
    accepting.answers("megaphone_broadcast_status", failed)
    status, output, errors = run("broadcast", "Hello", "--watch")
    assert status == ExitStatus.FAILURE
    assert "failed" in output
    assert "the broadcast b1 failed: timeout" in errors


def test_one_that_is_refused(node, run):
    error = {"field": "template", "what": "line 1: unexpected '}'", "remedy": "mend the template"}
    node.answers("megaphone_broadcast", {"error": error})
    status, _, errors = run("broadcast", "{{")
    assert status == ExitStatus.REFUSED
    assert errors == "megaphone: template: line 1: unexpected '}'. mend the template\n"


def test_text_from_a_file(accepting, run, tmp_path):
    file = tmp_path / "text"
    file.write_text("Grüße\n{{ user }}", encoding="utf-8")
    assert run("broadcast", "--file", str(file))[0] == ExitStatus.OK
    assert json.loads(request(accepting))["template"] == "Grüße\n{{ user }}"


@pytest.mark.parametrize("arguments", [("-",), ("--file", "-")])
def test_text_from_standard_input(accepting, run, monkeypatch, arguments):
    stdin = io.TextIOWrapper(io.BytesIO("Grüße".encode()), encoding="ascii")
    monkeypatch.setattr(sys, "stdin", stdin)
    assert run("broadcast", *arguments)[0] == ExitStatus.OK
    assert json.loads(request(accepting))["template"] == "Grüße"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "the text is missing"),
        (("a", "--file", "b"), "both a text and --file"),
        (("--file", "/no/such/file"), "No such file"),
        (("x" * ARGUMENT_LIMIT,), "the most is"),
        (("\udcff",), "template is not UTF-8"),
        (("a", "--subject", "\ud800"), "subject is not UTF-8"),
    ],
    ids=["none", "two", "missing", "long", "not UTF-8", "subject"],
)
def test_what_cannot_be_sent(node, run, arguments, told):
    status, _, errors = run("broadcast", *arguments)
    assert status == ExitStatus.USAGE
    assert told in errors
    assert not (node.place / "calls.jsonl").exists()


@pytest.mark.usefixtures("node")
def test_a_file_that_is_not_utf8(run, tmp_path):
    file = tmp_path / "text"
    file.write_bytes(b"abc\xff")
    status, _, errors = run("broadcast", "--file", str(file))
    assert status == ExitStatus.USAGE
    assert "byte 3" in errors


@pytest.mark.usefixtures("node")
def test_not_attached(run):
    status, _, errors = run("broadcast", "Hello")
    assert status == ExitStatus.FAILURE
    assert "megaphone attach" in errors
