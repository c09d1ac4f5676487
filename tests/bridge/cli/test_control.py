"""The command line by a sidecar's socket; what answers there is in tests/bridge/sidecar."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading

import pytest

from bridge.attach.ejabberdctl import Ejabberdctl
from bridge.cli import control
from bridge.cli.control import ControlSocket, reach
from bridge.cli.errors import CommandError, ExitStatus


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch):
    for name in list(os.environ):
        if name.startswith("MEGAPHONE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where the control socket is, and a sidecar is configured."""
    path = tmp_path / "control.sock"
    monkeypatch.setenv("MEGAPHONE_SIDECAR__SOCKET", str(tmp_path / "node.sock"))
    monkeypatch.setenv("MEGAPHONE_SIDECAR__SECRET_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("MEGAPHONE_SIDECAR__CONTROL_SOCKET", str(path))
    return path


@pytest.fixture
def serve(place):
    """Answers each connection with these bytes; what was asked."""
    with contextlib.ExitStack() as stack:

        def start(*answers, wait=False):
            asked = []
            over = threading.Event()
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(place))
            listener.listen()

            def run():
                for answer in answers:
                    connection, _ = listener.accept()
                    with connection:
                        data = connection.recv(65536)
                        while b"\r\n\r\n" not in data:
                            data += connection.recv(65536)
                        head, _, body = data.partition(b"\r\n\r\n")
                        size = next(
                            (int(line[15:]) for line in head.split(b"\r\n") if b"-Length" in line),
                            0,
                        )
                        while len(body) < size:
                            body += connection.recv(65536)
                        asked.append((head.split(b"\r\n")[0].decode(), body))
                        connection.sendall(answer)
                        over.wait(10 if wait else 0)

            serving = threading.Thread(target=run)
            serving.start()
            stack.callback(serving.join)
            stack.callback(over.set)
            return asked

        yield start


def http(status, document):
    body = json.dumps(document).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


def test_what_is_asked(serve):
    asked = serve(*[http(200, {"n": n}) for n in range(4)])
    way = reach(None)
    assert way.json("megaphone_status") == {"n": 0}
    assert way.json("megaphone_broadcast", '{"template":"Zoë"}') == {"n": 1}
    assert way.json("megaphone_broadcast_status", "b1") == {"n": 2}
    assert way.json("megaphone_broadcast_status", "a/b ?é") == {"n": 3}
    assert asked == [
        ("GET /v1/status HTTP/1.1", b""),
        ("POST /v1/broadcasts HTTP/1.1", '{"template":"Zoë"}'.encode()),
        ("GET /v1/broadcasts/b1 HTTP/1.1", b""),
        ("GET /v1/broadcasts/a%2Fb%20%3F%C3%A9 HTTP/1.1", b""),
    ]


@pytest.mark.parametrize(
    ("answer", "status", "told"),
    [
        (http(503, {"reason": "no turn"}), ExitStatus.NODE_NOT_RUNNING, "cannot be asked: no turn"),
        (http(413, {}), ExitStatus.USAGE, "the request is too long. shorten the text"),
        (http(404, {}), ExitStatus.FAILURE, "the sidecar answers 404. see its log"),
        (http(200, {})[:-1], ExitStatus.FAILURE, "answer cannot be read"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", ExitStatus.FAILURE, "cannot be read"),
        (b"SSH-2.0\r\n", ExitStatus.FAILURE, "answer cannot be read"),
        (b"", ExitStatus.FAILURE, "answer cannot be read"),
    ],
)
def test_what_is_no_answer(serve, answer, status, told):
    serve(answer)
    with pytest.raises(CommandError) as caught:
        reach(None).json("megaphone_status")
    assert caught.value.status == status
    assert told in str(caught.value)


def test_an_answer_that_is_no_document_is_none(serve):
    serve(http(200, [1, 2]))
    assert reach(None).json("megaphone_status") == {}


def test_no_answer_in_time(serve, monkeypatch):
    monkeypatch.setattr(control, "TIMEOUT", 0.2)
    serve(b"", wait=True)
    with pytest.raises(CommandError, match=r"within 0\.2 s\. see its log; what was asked may") as e:
        reach(None).json("megaphone_status")
    assert e.value.status == ExitStatus.TIMEOUT


@pytest.mark.parametrize("left", [False, True])
def test_no_sidecar_runs(place, run, left):
    if left:
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(place))
    status, out, err = run("status", "--json")
    assert status == ExitStatus.PORT_PROGRAM_DOWN
    assert json.loads(out)["error"]["status"] == 8
    assert f"no sidecar runs here: nobody listens at {place}. start it: megaphone sidecar" in err


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_another_user(place, tmp_path):
    for directory in (tmp_path, *tmp_path.parents):
        if str(directory).startswith("/tmp/"):
            directory.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        place.chmod(0o600)
        done = subprocess.run(
            [
                *("setpriv", "--reuid=65534", "--clear-groups"),
                *(sys.executable, "-m", "bridge.cli.main", "status"),
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == ExitStatus.PERMISSION, done.stderr
    assert done.stderr == f"megaphone: {place} is another user's. run this as the sidecar's user\n"


def test_which_way(place, node, monkeypatch):
    assert isinstance(reach(None), ControlSocket)
    assert isinstance(reach(str(node.ejabberdctl)), Ejabberdctl)
    monkeypatch.delenv("MEGAPHONE_SIDECAR__SOCKET")
    assert isinstance(reach(None), Ejabberdctl)
    monkeypatch.setenv("MEGAPHONE_SIDECAR__PORT", "x")
    with pytest.raises(CommandError, match="MEGAPHONE_SIDECAR__PORT") as caught:
        reach(None)
    assert caught.value.status == ExitStatus.CONFIGURATION
    assert place
