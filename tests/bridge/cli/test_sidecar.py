"""`megaphone ready`, and what `megaphone sidecar` becomes."""

import contextlib
import gc
import os
import socket
import subprocess
import sys
import threading
import warnings
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from bridge.cli import sidecar
from bridge.cli.errors import ExitStatus


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch):
    for name in list(os.environ):
        if name.startswith("MEGAPHONE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def answers():
    """Starts an HTTP server that answers /readyz so; its address."""
    with contextlib.ExitStack() as stack:

        def start(status, body, host="127.0.0.1"):
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self):
                    self.send_response(status if self.path == "/readyz" else 404)
                    self.end_headers()
                    self.wfile.write(body)

                def log_message(self, *_):
                    return

            server = stack.enter_context(HTTPServer((host, 0), Handler))
            serving = threading.Thread(target=server.serve_forever, args=(0.01,))
            serving.start()
            stack.callback(serving.join)
            stack.callback(server.shutdown)
            return f"http://{host}:{server.server_port}"

        yield start


@pytest.fixture
def says():
    """Starts a server that says these bytes and closes; its address."""
    with contextlib.ExitStack() as stack:

        def start(said, *, wait=False):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            over = threading.Event()

            def serve():
                with contextlib.suppress(OSError):
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(4096)
                        connection.sendall(said)
                        over.wait(10 if wait else 0)

            serving = threading.Thread(target=serve)
            serving.start()
            stack.callback(serving.join)
            stack.callback(over.set)
            return f"http://127.0.0.1:{listener.getsockname()[1]}"

        yield start


def test_ready(answers, run):
    for body, said in ((b"ready\n", "ready\n"), (b"standing by\n", "standing by\n")):
        assert run("ready", "--url", answers(200, body)) == (ExitStatus.OK, said, "")


def test_not_ready_and_why(answers, run):
    url = answers(503, b"node: not connected to unix:/x: refused\nworkers: none is ready\n")
    for address in (url, f"{url}/"):
        status, out, err = run("ready", "--url", address)
        assert (status, out) == (ExitStatus.PORT_PROGRAM_DOWN, "")
        assert err == (
            "megaphone: node: not connected to unix:/x: refused; workers: none is ready\n"
        )


def test_an_answer_without_a_reason(answers, run):
    url = answers(500, b"")
    status, _, err = run("ready", "--url", url)
    assert (status, err) == (8, f"megaphone: {url}/readyz answers 500\n")


@pytest.mark.parametrize(
    ("said", "wait"),
    [
        (b"", False),
        (b"SSH-2.0-OpenSSH\r\n", False),
        (b"HTTP/1.1 503 No\r\nContent-Length: 100\r\n\r\nre", True),
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200 OK\r\n" + b"x" * 100_000, False),
        (b"", True),
    ],
)
def test_whatever_answers_is_one_line_and_the_status(says, run, monkeypatch, said, wait):
    monkeypatch.setattr(sidecar, "TIMEOUT", 0.2)
    url = says(said, wait=wait)
    with warnings.catch_warnings():
        # What urllib has of a failed answer is in a cycle; the command ends, and all with it.
        warnings.simplefilter("ignore", ResourceWarning)
        status, out, err = run("ready", "--url", url)
        gc.collect()
    assert (status, out) == (ExitStatus.PORT_PROGRAM_DOWN, ""), err
    assert err.startswith(f"megaphone: {url}/readyz")
    assert err.count("\n") == 1
    assert "internal error" not in err


def test_nobody_there_and_no_address(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    status, _, err = run("ready", "--url", f"http://127.0.0.1:{port}")
    assert status == ExitStatus.PORT_PROGRAM_DOWN
    assert "Connection refused" in err
    for url in ("nonsense", "http://a b", "http://[::1", "http://nowhere.invalid"):
        status, _, err = run("ready", "--url", url)
        assert status == ExitStatus.PORT_PROGRAM_DOWN, err
        assert err.count("\n") == 1


def test_the_configured_address_is_asked(answers, run, monkeypatch):
    port = answers(200, b"ready\n").rpartition(":")[2]
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("MEGAPHONE_HTTP__PORT", port)
    for host in ("127.0.0.1", "0.0.0.0", "localhost"):
        monkeypatch.setenv("MEGAPHONE_HTTP__HOST", host)
        assert run("ready") == (ExitStatus.OK, "ready\n", "")


def test_addresses_of_ipv6(monkeypatch):
    for host, address in (("::", "[::1]"), ("::1", "[::1]"), ("2001:db8::1", "[2001:db8::1]")):
        monkeypatch.setenv("MEGAPHONE_HTTP__HOST", host)
        assert sidecar._configured() == f"http://{address}:8470"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("MEGAPHONE_HTTP__PORT", "0", "no fixed port"),
        ("MEGAPHONE_HTTP__ENABLED", "false", "no fixed port"),
        ("MEGAPHONE_HTTP__PORT", "x", "variable MEGAPHONE_HTTP__PORT"),
    ],
)
def test_nobody_can_be_asked(run, monkeypatch, name, value, told):
    monkeypatch.setenv(name, value)
    status, _, err = run("ready")
    assert status == ExitStatus.CONFIGURATION
    assert told in err


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["sidecar"], 1, "there is no node to connect to: set sidecar.socket"),
        (["sidecar", "--chek"], 2, "No such option"),
    ],
)
def test_the_command_line_of_the_program(words, status, told):
    command = [sys.executable, "-m", "bridge.cli.main", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == status
    assert told in done.stderr
    assert done.stdout == ""
