from __future__ import annotations

import json

import pytest

from bridge.cli.errors import ExitStatus

DOCUMENT = {
    "node": {
        "name": "ejabberd@localhost",
        "ejabberd": "23.01-1",
        "otp": "25",
        "version": "0.1.0",
        "vhosts": ["a.example", "b.example"],
        "sessions": 12345,
    },
    "port": {"state": "connected", "os_pid": 4711, "restarts": 2, "reason": None},
    "broadcasts": [
        {
            "id": "b1",
            "state": "done",
            "recipients": 10,
            "sent": 7,
            "gone": 3,
            "dropped": 0,
            "failed": 0,
            "seconds": 1.25,
        }
    ],
    "bridge": {
        "version": "0.1.0",
        "python": "3.11.2",
        "http": "http://127.0.0.1:8470",
        "rss_bytes": 54_000_000,
        "workers": [
            {"pid": 4712, "state": "idle", "batches": 5, "restarts": 0, "rss_bytes": 19_000_000}
        ],
    },
}


def test_it_shows_everything(node, run):
    node.answers("megaphone_status", DOCUMENT)
    status, output, _ = run("status")
    assert status == ExitStatus.OK
    for fact in (
        *("ejabberd@localhost", "23.01-1", "OTP 25", "a.example, b.example", "12345", "4711"),
        *("http://127.0.0.1:8470", "54 MB", "4712", "19 MB", "b1", "done", "1.2"),
    ):
        assert fact in output


def test_json_is_the_document(node, run):
    node.answers("megaphone_status", DOCUMENT)
    status, output, _ = run("status", "--json")
    assert (status, json.loads(output)) == (ExitStatus.OK, DOCUMENT)


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_a_port_program_that_is_down(node, run, arguments):
    port = {"state": "backing_off", "reason": "exit status 1", "os_pid": None}
    node.answers("megaphone_status", {**DOCUMENT, "port": port, "bridge": None})
    status, output, _ = run("status", *arguments)
    assert status == ExitStatus.PORT_PROGRAM_DOWN
    assert "backing_off" in output
    assert "exit status 1" in output


@pytest.mark.usefixtures("node")
def test_not_attached(run):
    status, _, errors = run("status")
    assert status == ExitStatus.FAILURE
    assert errors == (
        "megaphone: mod_megaphone is not attached to this node. run: megaphone attach\n"
    )


def test_a_node_that_does_not_run(node, run):
    node.ejabberdctl.write_text(
        "#!/bin/sh\necho 'Failed RPC connection to the node a@b: nodedown'\nexit 3\n"
    )
    status, _, errors = run("status")
    assert status == ExitStatus.NODE_NOT_RUNNING
    assert errors.count("\n") == 1


def test_no_ejabberdctl(run):
    status, _, errors = run("status", "--ejabberdctl", "/no/such/file")
    assert status == ExitStatus.EJABBERDCTL_NOT_FOUND
    assert "--ejabberdctl" in errors


def test_the_tree(node, run):
    def part(name, kind, state="running", restarts=0, uptime=7.5, *children, os_pid=None):
        return {
            "id": name,
            "type": kind,
            "state": state,
            "restarts": restarts,
            "uptime_seconds": uptime,
            "os_pid": os_pid,
            "children": list(children),
        }

    tree = part(
        *("megaphone", "supervisor", "running", 0, 93784.0),
        part("port", "worker", "running", 1, 65.0),
        part(
            *("[workers]", "supervisor", "running", 2, 5.0),
            part("worker-0", "os_process", "running", 1, os_pid=4711),
        ),
        part("http", "worker", "restarting", 3, None),
    )
    node.answers("megaphone_status", {**DOCUMENT, "bridge": {**DOCUMENT["bridge"], "tree": tree}})
    status, output, _ = run("status", "--tree")
    assert status == ExitStatus.OK
    assert output.splitlines() == [
        "megaphone  supervisor, running, up 1d 2h",
        "├── port  worker, running, up 1m 5s, 1 restart",
        "├── [workers]  supervisor, running, up 5s, 2 restarts",
        "│   └── worker-0  os_process 4711, running, up 7s, 1 restart",
        "└── http  worker, restarting, 3 restarts",
    ]


def test_no_tree(node, run):
    port = {"state": "backing_off", "reason": "exit status 1", "os_pid": None}
    node.answers("megaphone_status", {**DOCUMENT, "port": port, "bridge": None})
    status, output, errors = run("status", "--tree")
    assert (status, output) == (ExitStatus.PORT_PROGRAM_DOWN, "")
    assert "exit status 1" in errors
