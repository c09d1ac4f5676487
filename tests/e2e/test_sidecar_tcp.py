"""Sidecars over TCP and TLS, and what else may connect to such a port."""

import asyncio
import contextlib
import http.client
import resource
import socket
import subprocess
import time

import pytest

from tests.e2e import support
from tests.e2e.sidecars import Sidecar, starting, write_secret

SILENT = 10_000


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("tcp")


@pytest.fixture(scope="module")
def certificate(place):
    """A certificate for `localhost` with its key in one file, and an authority that signed it."""

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=place, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    # Python wants it since 3.13, and openssl does not say it by itself.
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    openssl("req", "-x509", *key, *usage, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    openssl("req", *key, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=localhost")
    (place / "names").write_text("subjectAltName=DNS:localhost\n")
    openssl(
        *("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key"),
        *("-CAcreateserial", "-extfile", "names", "-out", "cert.pem"),
    )
    both = (place / "cert.pem").read_text() + (place / "key.pem").read_text()
    (place / "node.pem").write_text(both)
    return place / "node.pem"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def node(start_session_node):
    """A node to which each test gives the port that it wants."""
    return start_session_node()


@pytest.fixture
def listen(node, place):
    """Has the node listen at a free port with these options; the port."""
    secret = write_secret(place / "secret")

    def start(**options):
        port = free_port()
        support.attach(node, sidecar={"port": port, "secret_file": str(secret), **options})
        return port

    return start


@pytest.fixture
def sidecar(place):
    """Starts sidecars that connect to a port; they are gone at the end."""
    secret = str(place / "secret")
    with starting(
        place, MEGAPHONE_SIDECAR__HOST="localhost", MEGAPHONE_SIDECAR__SECRET_FILE=secret
    ) as start:
        yield lambda name, port, **more: start(name, MEGAPHONE_SIDECAR__PORT=str(port), **more)


async def connected(node):
    await support.until(lambda: support.port(node)[0] == "connected", 30, pause=0.1)


async def test_tls_from_the_certificate_to_the_message(
    node, place, certificate, listen, sidecar, xmpp
):
    port = listen(tls=True, certfile=str(certificate))
    stranger = sidecar("stranger", port, MEGAPHONE_SIDECAR__TLS="true")
    await stranger.until_logged("the node's certificate: unable to get local issuer certificate")
    stranger.stop()
    plain = sidecar("plain", port)
    await plain.until_logged("not connected; trying again")
    plain.stop()
    trusted = {"MEGAPHONE_SIDECAR__TLS": "true", "MEGAPHONE_SIDECAR__CA_FILE": f"{place}/ca.pem"}
    elsewhere = sidecar("elsewhere", port, MEGAPHONE_SIDECAR__SERVER_NAME="example.org", **trusted)
    await elsewhere.until_logged("the node's certificate: Hostname mismatch")
    elsewhere.stop()
    one = sidecar("one", port, **trusted)
    await connected(node)
    found = await asyncio.to_thread(one.status)
    assert found["port"]["transport"] == "tls"
    assert found["bridge"]["sidecar"]["node"] == f"tls://localhost:{port}"
    client = await xmpp(node, "alice")
    text = "ü" * 20_000
    done = await asyncio.to_thread(one.cli, "broadcast", f"{{{{ user }}}}: {text}", "--watch")
    assert done.returncode == 0, done.stderr
    (message,) = await client.wait_for(1)
    assert message["body"] == f"alice: {text}"
    one.kill()
    await support.until(lambda: support.port(node)[0] == "waiting")


async def test_what_is_no_loopback_wants_tls(node, place):
    """Refused with a line, the node goes on; and at the sidecar."""
    for options, remedy in (
        ({"ip": "0.0.0.0"}, "set sidecar.tls: true, or sidecar.allow_plaintext: true"),
        ({"socket": str(place)}, "is there and no socket (directory)"),
    ):
        port = {} if "socket" in options else {"port": free_port()}
        wanted = {"secret_file": str(place / "secret"), **options, **port}
        with pytest.raises(Exception, match="no sidecar is connected") as refused:
            support.attach(node, sidecar=wanted)
        assert remedy in str(refused.value)
    environment = {"MEGAPHONE_SIDECAR__HOST": "192.0.2.1"}
    one = Sidecar(
        place / "far", {**environment, "MEGAPHONE_SIDECAR__SECRET_FILE": f"{place}/secret"}
    )
    assert one.start().process.wait(20) == 1
    assert "192.0.2.1 is not this machine: set tls, or allow_plaintext" in one.log.read_text()


async def test_http_gets_an_answer_and_a_line(node, listen):
    port = listen()

    def ask():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            return answer.status, answer.read()

    status, body = await asyncio.to_thread(ask)
    assert status == 400
    assert body == b"This port is for Megaphone's sidecars and speaks no HTTP\n"
    await support.until(lambda: "it speaks HTTP, and this is no port for that" in node.log())


async def test_ten_thousand_that_say_nothing(node, listen, sidecar, xmpp):
    """The node holds a few of them; who has something to say gets through, chat is as it was."""
    port = listen()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, SILENT + 2000), hard))
    alice, bob = [await xmpp(node, user) for user in ("alice", "bob")]
    before = int(node.eval("erlang:system_info(port_count)"))
    silent = []

    def connect_all():
        for _ in range(SILENT):
            one = socket.create_connection(("127.0.0.1", port), timeout=30)
            silent.append(one)

    try:
        connecting = asyncio.create_task(asyncio.to_thread(connect_all))
        await support.until(lambda: len(silent) > SILENT // 10, 60)
        alice.stream.send_message(mto=bob.jid, mbody="still here", mtype="chat")
        (message,) = await bob.wait_for(1)
        assert message["body"] == "still here"
        async with asyncio.timeout(100):
            await connecting
        open_ones = int(node.eval("erlang:system_info(port_count)")) - before
        assert open_ones < 80, open_ones
        begun = time.monotonic()
        one = sidecar("through", port)
        await connected(node)
        assert time.monotonic() - begun < 30
        told = node.log().count("too many connections say nothing")
        assert 1 <= told < 20
        one.stop()
    finally:
        for one in silent:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
