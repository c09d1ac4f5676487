"""What `megaphone attach` and `megaphone detach` say; what they do is tested with the parts."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from bridge.attach import installation, removal
from bridge.attach.installation import AttachPlan, AttachReport
from bridge.attach.package import Package
from bridge.attach.removal import DetachReport
from bridge.cli.errors import CommandError, ExitStatus
from bridge.version import __version__


@pytest.fixture
def asked(monkeypatch):
    """The requests that reached the parts; `action` is what they found."""
    seen = SimpleNamespace(requests=[], attached=0, action="installed", warnings=())
    target = SimpleNamespace(
        running=SimpleNamespace(name="a@b", ejabberd="23.01"),
        directory=SimpleNamespace(sources="/m/sources/mod_megaphone"),
        process=SimpleNamespace(user="ejabberd"),
    )

    def plan(request):
        seen.requests.append(request)
        package = Package({}, "")
        return AttachPlan(
            target, seen.action, "/p/python", package, "options", "0.0.1", seen.warnings
        )

    def attach(_request, prepared, say):
        seen.attached += 1
        say("working")
        return AttachReport(prepared.action, prepared, {"port": {"state": "connected"}})

    monkeypatch.setattr(installation, "plan", plan)
    monkeypatch.setattr(installation, "attach", attach)
    return seen


@pytest.mark.parametrize(
    ("action", "told"),
    [
        ("installed", f"attached mod_megaphone {__version__} to a@b"),
        ("upgraded", f"upgraded mod_megaphone on a@b from 0.0.1 to {__version__}"),
        ("unchanged", "already attached to a@b"),
    ],
)
def test_the_outcome_is_one_line(asked, run, action, told):
    asked.action = action
    status, output, errors = run("attach")
    assert status == ExitStatus.OK
    assert told in output
    assert output.count("\n") == 1
    assert errors == "working\n"


@pytest.mark.parametrize("action", ["installed", "upgraded", "unchanged"])
def test_a_dry_run_only_plans(asked, run, action):
    asked.action = action
    status, output, _ = run("attach", "--dry-run")
    assert (status, asked.attached) == (ExitStatus.OK, 0)
    assert "a@b" in output


def test_json_is_one_document(asked, run):
    asked.warnings = ("beware",)
    status, output, errors = run("attach", "--json")
    assert (status, errors) == (ExitStatus.OK, "")
    document = json.loads(output)
    assert document["done"] is True
    assert document["warnings"] == ["beware"]
    assert document["status"] == {"port": {"state": "connected"}}
    assert json.loads(run("attach", "--json", "--dry-run")[1])["done"] is False


def test_warnings_are_shown(asked, run):
    asked.warnings = ("beware",)
    assert "warning: beware\n" in run("attach")[2]


def test_the_request(asked, run):
    words = ("--option", "batch_size=5", "--option", "x=[1]", "--timeout", "7", "--keep")
    run("attach", "--ejabberdctl", "/e", "--python", "/p", "--pid", "12", *words)
    (request,) = asked.requests
    assert request.options == {"batch_size": 5, "x": [1]}
    assert (request.ejabberdctl, request.python, request.pid) == ("/e", "/p", 12)
    assert (request.timeout, request.keep) == (7.0, True)


@pytest.mark.parametrize(
    "words",
    [("--option", "python=/x"), ("--option", "nothing"), ("--timeout", "0"), ("surplus",)],
)
def test_a_wrong_command_line(asked, run, words):
    status, output, errors = run("attach", *words)
    assert (status, output) == (ExitStatus.USAGE, "")
    assert errors.count("\n") == 1
    assert asked.requests == []


@pytest.mark.parametrize(
    ("report", "told"),
    [
        (DetachReport("detached", "a@b", ()), "detached mod_megaphone from a@b\n"),
        (DetachReport("unchanged", "a@b", ()), "not attached to a@b; nothing to do\n"),
    ],
)
def test_detach(monkeypatch, run, report, told):
    monkeypatch.setattr(removal, "detach", lambda *_arguments: report)
    status, output, _ = run("detach")
    assert status == ExitStatus.OK
    assert output.endswith(told)
    document = json.loads(run("detach", "--json")[1])
    assert document == {"action": report.action, "node": "a@b", "warnings": []}


def test_detach_shows_warnings_and_errors(monkeypatch, run):
    report = DetachReport("detached", "a@b", ("beware",))
    monkeypatch.setattr(removal, "detach", lambda *_arguments: report)
    assert run("detach")[2] == "warning: beware\n"

    def refuse(*_arguments):
        raise CommandError("e.yml:7 names it", "remove it", ExitStatus.CONFIGURATION)

    monkeypatch.setattr(removal, "detach", refuse)
    status, _, errors = run("detach")
    assert (status, errors) == (
        ExitStatus.CONFIGURATION,
        "megaphone: e.yml:7 names it. remove it\n",
    )
