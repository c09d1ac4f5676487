import asyncio
import re
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erlang_port.handshake import Accepted, Handshake, HandshakeError, WrongSecret
from erlang_port.transports import sockets
from erlang_port.transports.sockets import Endpoint, connect
from tests.bridge.waiting import until
from tests.support.sidecar_node import MAGIC, SECRET, Authority, SidecarNode

INSTANCE = b"i" * 16


def shaking(secret=SECRET):
    return Handshake(secret, "one", INSTANCE, 3)


@pytest.fixture
async def node():
    node = SidecarNode()
    yield node
    await node.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


def unix(node):
    return Endpoint(path=str(node.path))


def threads():
    return [one for one in threading.enumerate() if one.name in {"connect", "tls"}]


def sockets_open():
    links = Path("/proc/self/fd").iterdir()
    return sum("socket:" in str(link.readlink()) for link in links if link.is_symlink())


async def converse(connected, theirs):
    """Both directions, as PortConnection would: by the descriptor."""
    stream = connected.socket
    assert stream.gettimeout() is None
    stream.sendall(b"from the sidecar")
    assert await theirs.reader.readexactly(16) == b"from the sidecar"
    theirs.writer.write(b"from the node")
    assert await asyncio.to_thread(stream.recv, 100) == b"from the node"


async def test_a_unix_socket(node, tmp_path):
    await node.listen(tmp_path / "node.sock")
    connected = await connect(unix(node), shaking())
    theirs = await node.connection()
    assert connected.accepted == Accepted(1.0, 10.0)
    assert (theirs.identity, theirs.instance, theirs.epoch) == ("one", INSTANCE, 3)
    await converse(connected, theirs)
    connected.shut_down()
    await theirs.ended()
    connected.socket.close()
    # Once more is no error: whoever closes need not know who was first.
    connected.shut_down()


async def test_tcp_says_what_it_has_at_once(node):
    await node.listen_tcp()
    connected = await connect(Endpoint(host="127.0.0.1", port=node.port), shaking())
    assert connected.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    await converse(connected, await node.connection())
    connected.socket.close()


async def test_a_name_with_several_addresses(node, monkeypatch):
    """The one that listens is found behind one that does not."""
    await node.listen_tcp()
    with socket.create_server(("127.0.0.1", 0)) as other:
        closed = other.getsockname()
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", closed),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", node.port)),
    ]
    monkeypatch.setattr(sockets.socket, "getaddrinfo", lambda *_, **__: found)
    connected = await connect(Endpoint(host="node.test", port=1), shaking())
    await converse(connected, await node.connection())
    connected.socket.close()


async def test_tls(node, authority):
    await node.listen_tcp(authority.server())
    endpoint = Endpoint(host="localhost", port=node.port, tls=authority.client())
    connected = await connect(endpoint, shaking())
    await converse(connected, await node.connection())
    connected.socket.close()
    await until(lambda: not threads())


async def test_the_name_in_the_certificate_may_be_another_than_the_address(node, authority):
    await node.listen_tcp(authority.server())
    tls = authority.client()
    endpoint = Endpoint(host="127.0.0.1", port=node.port, tls=tls, server_name="localhost")
    connected = await connect(endpoint, shaking())
    connected.socket.close()
    wrong = Endpoint(host="127.0.0.1", port=node.port, tls=tls, server_name="other.test")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"other\.test"):
        await connect(wrong, shaking())


async def test_an_authority_that_nobody_knows(node, authority):
    await node.listen_tcp(authority.server())
    endpoint = Endpoint(host="localhost", port=node.port, tls=ssl.create_default_context())
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect(endpoint, shaking())
    # Nothing of the handshake was said to whoever it is.
    assert node.attempts == 0


async def test_a_client_s_certificate(node, authority):
    await node.listen_tcp(authority.server(wants_client=True))
    with_one = authority.client(authority.sidecar)
    connected = await connect(Endpoint(host="localhost", port=node.port, tls=with_one), shaking())
    await converse(connected, await node.connection())
    connected.socket.close()
    without = Endpoint(host="localhost", port=node.port, tls=authority.client())
    refused = r"certificate.required|closed the connection|reset|Broken pipe"
    with pytest.raises(OSError, match=refused):
        await connect(without, shaking())


async def test_nobody_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        await connect(Endpoint(path=str(tmp_path / "none")), shaking())
    (tmp_path / "file").touch()
    with pytest.raises(ConnectionRefusedError):
        await connect(Endpoint(path=str(tmp_path / "file")), shaking())
    with pytest.raises(OSError, match="too long"):
        await connect(Endpoint(path="/" + "x" * 200), shaking())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        await connect(Endpoint(host="127.0.0.1", port=port), shaking())


# What a node may say instead.


async def refusing(connection):
    await connection.challenge()
    await connection.heard()
    await connection.say(b"\x01the secrets differ")


async def refusing_at_once(connection):
    await connection.heard()
    await connection.say(b"\x02too many wrong secrets")


async def test_refusals(node, tmp_path):
    await node.listen(tmp_path / "node.sock")
    node.serve = refusing
    with pytest.raises(WrongSecret, match=r"^the node refuses this sidecar: the secrets differ$"):
        await connect(unix(node), shaking())
    node.serve = refusing_at_once
    with pytest.raises(HandshakeError, match="too many wrong secrets"):
        await connect(unix(node), shaking())


async def test_a_node_of_another_secret_is_none(node, tmp_path):
    await node.listen(tmp_path / "node.sock")

    async def another(connection):
        sidecar, number = await connection.challenge()
        await connection.prove(SECRET, sidecar, number)
        await connection.say(b"\0" + bytes(32) + bytes(8))

    node.serve = another
    before = sockets_open()
    with pytest.raises(HandshakeError, match="it is not the node"):
        await connect(unix(node), shaking())
    assert sockets_open() == before + 1  # the stand-in's own end
    await (await node.connection()).ended()


async def test_one_that_gives_everything_back(node, tmp_path):
    await node.listen(tmp_path / "node.sock")

    async def echo(connection):
        opening = await connection.heard()
        await connection.say(opening)
        await connection.say(b"\0" + (await connection.heard())[:40])

    node.serve = echo
    with pytest.raises(HandshakeError, match="it is not the node"):
        await connect(unix(node), shaking())


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\0\0\0\0",
        b"\0\0\x04\x01" + b"x" * 1025,
        b"\xff\xff\xff\xff",
        b"\0\0\0\x05hello",
    ],
)
async def test_garbage(node, tmp_path, said):
    await node.listen(tmp_path / "node.sock")

    async def garbage(connection):
        connection.write(said)

    node.serve = garbage
    with pytest.raises(HandshakeError, match="speaks no handshake of a node's"):
        await connect(unix(node), shaking())


@pytest.mark.parametrize("bytes_sent", [0, 3, 4, 20])
async def test_the_end_in_the_middle(node, tmp_path, bytes_sent):
    await node.listen(tmp_path / "node.sock")

    async def half(connection):
        await connection.heard()
        connection.write((b"\0\0\0\x2a" + MAGIC + bytes(32))[:bytes_sent])
        await connection.close()

    node.serve = half
    with pytest.raises(HandshakeError, match="closed the connection in the middle"):
        await connect(unix(node), shaking())


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(said=st.lists(st.binary(max_size=80), max_size=4), framed=st.booleans())
def test_whatever_it_says_it_is_an_error_of_the_handshake(tmp_path_factory, said, framed):
    place = tmp_path_factory.mktemp("s")

    async def anything(connection):
        for part in said:
            await (connection.say(part) if framed else write(connection, part))
        connection.writer.write_eof()
        await connection.ended()

    async def write(connection, part):
        connection.write(part)

    async def attempt():
        node = SidecarNode(anything)
        await node.listen(place / "node.sock")
        try:
            with pytest.raises(OSError) as caught:  # noqa: PT011 - a broken pipe is one, too
                await connect(unix(node), shaking())
            assert isinstance(caught.value, HandshakeError | BrokenPipeError | ConnectionResetError)
        finally:
            await node.close()

    asyncio.run(attempt())


# Time.


@pytest.fixture
def hurry(monkeypatch):
    monkeypatch.setattr(sockets, "TIMEOUT", 0.3)


async def test_plain_text_where_tls_is_wanted_and_the_other_way_round(node, authority, hurry):  # noqa: ARG001
    await node.listen_tcp()
    secured = Endpoint(host="localhost", port=node.port, tls=authority.client())
    # The node waits for the end of what it takes for a very long message.
    with pytest.raises(TimeoutError, match="did not answer"):
        await connect(secured, shaking())
    other = SidecarNode()
    try:
        await other.listen_tcp(authority.server())
        with pytest.raises(
            OSError, match=r"no handshake of a node's|closed the connection|reset|did not answer"
        ):
            await connect(Endpoint(host="127.0.0.1", port=other.port), shaking())
    finally:
        await other.close()


async def silent(connection):
    await connection.ended()


async def dripping(connection):
    """One byte after the other, each well within the bound, and never whole."""
    connection.write(b"\0\0\x04\0")
    for _ in range(100):
        connection.write(b"x")
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("serve", [silent, dripping])
async def test_silence_has_a_bound(node, tmp_path, hurry, serve):  # noqa: ARG001
    await node.listen(tmp_path / "node.sock")
    node.serve = serve
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match=r"^the node did not answer within 0\.3 s$"):
        await connect(unix(node), shaking())
    assert time.monotonic() - begun < 2
    await until(lambda: not threads())


async def test_silence_where_tls_was_to_be(hurry, authority):  # noqa: ARG001
    with socket.create_server(("127.0.0.1", 0)) as silence:
        endpoint = Endpoint(host="localhost", port=silence.getsockname()[1], tls=authority.client())
        with pytest.raises(TimeoutError, match=r"^the node did not answer within 0\.3 s$"):
            await connect(endpoint, shaking())


async def test_a_name_that_is_looked_up_for_ever(hurry, monkeypatch):  # noqa: ARG001
    """No timeout of a socket bounds that."""
    go = threading.Event()

    def look_up(*_, **__):
        go.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(sockets.socket, "getaddrinfo", look_up)
    begun = time.monotonic()
    try:
        with pytest.raises(TimeoutError, match=r"^the node did not answer within 0\.3 s$"):
            await connect(Endpoint(host="node.test", port=1), shaking())
        assert time.monotonic() - begun < 5
    finally:
        go.set()
    await until(lambda: not threads())


@pytest.mark.parametrize(
    "host", ["a" * 64 + ".test", "..", "\udcff", "node\0.test", "x" * 300, "nowhere.invalid"]
)
async def test_a_name_that_is_none(host):
    with pytest.raises(OSError, match=r".+"):
        await connect(Endpoint(host=host, port=1), shaking())


async def test_a_server_s_name_that_is_none(node, authority):
    await node.listen_tcp(authority.server())
    for name in (".localhost", "a" * 300):
        endpoint = Endpoint(
            host="localhost", port=node.port, tls=authority.client(), server_name=name
        )
        with pytest.raises(OSError, match=re.escape(repr(name))):
            await connect(endpoint, shaking())


async def test_cancelled_while_the_node_is_silent(node, tmp_path):
    await node.listen(tmp_path / "node.sock")
    arrived = asyncio.Event()

    async def serve(connection):
        arrived.set()
        await connection.ended()

    node.serve = serve
    connecting = asyncio.create_task(connect(unix(node), shaking()))
    await asyncio.wait_for(arrived.wait(), 5)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    # The node learns of it at once, and no thread waits for the bound.
    await node.connection()
    await until(lambda: not threads(), 2)


@pytest.mark.parametrize("when", ["the result comes", "it has come"])
async def test_cancelled_when_it_was_done_already(node, tmp_path, when):
    """What nobody takes any more is closed."""
    await node.listen(tmp_path / "node.sock")

    async def serve(connection):
        await connection.accept()
        # The loop is held here until the thread has ended: its result is on its way to the loop.
        deadline = time.monotonic() + 5
        while threads() and time.monotonic() < deadline:
            time.sleep(0.005)  # noqa: ASYNC251
        if when == "the result comes":
            connecting.cancel()
        else:
            # Behind it: the future is done then, and who waits for it has not had his turn.
            asyncio.get_running_loop().call_soon(connecting.cancel)

    node.serve = serve
    connecting = asyncio.create_task(connect(unix(node), shaking()))
    with pytest.raises(asyncio.CancelledError):
        await connecting
    await (await node.connection()).ended()


def test_a_loop_that_is_closed_meanwhile(tmp_path):
    """Neither an error on stderr nor a socket is left."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "node.sock"))
    listener.listen()
    loop = asyncio.new_event_loop()
    connecting = loop.create_task(connect(Endpoint(path=str(tmp_path / "node.sock")), shaking()))
    loop.run_until_complete(asyncio.sleep(0))
    theirs, _ = listener.accept()
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(connecting)
    loop.close()
    theirs.settimeout(5)
    while theirs.recv(100):
        pass
    theirs.close()
    listener.close()
    deadline = time.monotonic() + 5
    while threads():
        assert time.monotonic() < deadline
        time.sleep(0.005)


async def test_nothing_is_left_of_a_hundred_attempts(node, tmp_path):
    await node.listen(tmp_path / "node.sock")

    async def refuse(connection):
        await connection.heard()
        await connection.say(b"\x06busy")
        await connection.ended()
        await connection.close()

    node.serve = refuse
    before = sockets_open()
    for _ in range(100):
        with pytest.raises(HandshakeError, match="busy"):
            await connect(unix(node), shaking())
    await until(lambda: sockets_open() <= before and not threads())
