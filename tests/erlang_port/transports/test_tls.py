import asyncio
import contextlib
import os
import select
import socket
import ssl
import struct
import threading
import time

import pytest

from erlang_port.frames import FrameReader
from erlang_port.messages import Heartbeat, decode_message
from erlang_port.transports.fds import Disconnected, Liveness, PortConnection
from erlang_port.transports.tls import TlsRelay
from tests.support.processes import wait_until
from tests.support.sidecar_node import Authority

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=["TLSv1.2", "TLSv1.3"])
def pair(request, authority):
    """The program's plain end of a relay, and the node's TLS socket; blocking, 10 s at most."""
    yield from paired(authority, request.param)


@pytest.fixture
def quick(authority):
    """As `pair`, with the newest TLS only."""
    yield from paired(authority, "TLSv1.3")


def paired(authority, version):
    version = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}[version]
    server = authority.server()
    server.minimum_version = server.maximum_version = version
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), 10)
        accepted, _ = listener.accept()
    accepted.settimeout(10)
    secured = []
    shaking = threading.Thread(
        target=lambda: secured.append(server.wrap_socket(accepted, server_side=True))
    )
    shaking.start()
    client = authority.client().wrap_socket(client, server_hostname="localhost")
    shaking.join(10)
    assert client.version() == {771: "TLSv1.2", 772: "TLSv1.3"}[version]
    plain = TlsRelay.start(client)
    plain.settimeout(10)
    node = secured[0]
    try:
        yield plain, node
    finally:
        plain.close()
        with contextlib.suppress(OSError):
            node.close()
        wait_until(lambda: not relays(), 5, "the relay's thread has ended")
    # Its descriptors are closed, too, and with them nobody's in their place.
    assert client.fileno() == -1


def relays():
    return [thread for thread in threading.enumerate() if thread.name == "tls"]


def exactly(stream, size):
    data = bytearray()
    while len(data) < size:
        part = stream.recv(min(MIB, size - len(data)))
        assert part, f"it ended after {len(data)} of {size} bytes"
        data += part
    return bytes(data)


class Threads:
    """Runs calls at the same time; what they return."""

    def __init__(self, *calls):
        self.results = [None] * len(calls)
        self._threads = [
            threading.Thread(target=self._run, args=(n, call)) for n, call in enumerate(calls)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, n, call):
        self.results[n] = call()

    def join(self, timeout=20):
        for thread in self._threads:
            thread.join(timeout)
            assert not thread.is_alive()
        return self.results


def test_what_is_said_arrives_both_ways(pair):
    plain, node = pair
    plain.sendall(b"one")
    assert exactly(node, 3) == b"one"
    node.sendall(b"two")
    assert exactly(plain, 3) == b"two"


def test_twenty_megabytes_in_both_directions_at_once(pair):
    plain, node = pair
    up, down = os.urandom(20 * MIB), os.urandom(20 * MIB)
    # Of SSLSocket one thread may read and another write, but OpenSSL 3.0 has races: one for both.
    received = Threads(
        lambda: plain.sendall(up),
        lambda: exactly(plain, len(down)),
        lambda: both(node, down, len(up)),
    ).join(60)
    assert received[1] == down
    assert received[2] == up


def both(stream, data, size):
    """Sends and receives in one thread, without waiting in either."""
    stream.setblocking(False)
    view, got = memoryview(data), bytearray()
    poll = select.poll()
    poll.register(stream, select.POLLIN | select.POLLOUT)
    deadline = time.monotonic() + 50
    while view or len(got) < size:
        assert time.monotonic() < deadline
        moved = False
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            got += stream.recv(MIB)
            moved = True
        if view:
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                view = view[stream.send(view[:MIB]) :]
                moved = True
        if not moved:
            poll.modify(stream, select.POLLIN | (select.POLLOUT if view else 0))
            poll.poll(1000)
    return bytes(got)


def test_a_record_is_passed_on_whole_though_nothing_comes_after_it(pair):
    """What OpenSSL has decrypted, no poll tells of."""
    plain, node = pair
    for size in (1, 16384, 16385, 65535, 65536, 65537, 200_000):
        data = os.urandom(size)
        sending = Threads(lambda data=data: node.sendall(data))
        assert exactly(plain, size) == data
        sending.join()


def test_a_node_that_does_not_read_is_waited_for_without_work(quick):
    plain, node = quick
    data = os.urandom(64 * MIB)
    plain.setblocking(False)
    sent = fill(plain, data)
    assert sent < len(data)
    assert_idle(0.3)
    # The other direction goes on meanwhile.
    node.sendall(b"still here")
    plain.setblocking(True)
    assert exactly(plain, 10) == b"still here"
    assert exactly(node, sent) == data[:sent]


def test_a_program_that_does_not_read_is_waited_for_without_work(quick):
    plain, node = quick
    data = os.urandom(64 * MIB)
    node.setblocking(False)
    sent = fill(node, data)
    assert sent < len(data)
    assert_idle(0.3)
    plain.sendall(b"still here")
    node.setblocking(True)
    assert exactly(node, 10) == b"still here"
    assert exactly(plain, sent) == data[:sent]


def fill(stream, data):
    """Sends until nothing is taken for a tenth of a second; how much was."""
    sent, quiet = 0, time.monotonic() + 0.1
    while time.monotonic() < quiet:
        try:
            sent += stream.send(data[sent : sent + MIB])
        except (BlockingIOError, ssl.SSLWantWriteError):
            select.select([], [], [], 0.01)
        else:
            quiet = time.monotonic() + 0.1
    return sent


def assert_idle(seconds):
    """The relay takes no processor for a while."""
    (relay,) = relays()
    before = processor(relay)
    time.sleep(seconds)  # It is what is measured.
    used = processor(relay) - before
    assert used <= seconds / 5, f"it used {used:.2f} s of {seconds} s"


def processor(thread):
    """Seconds that a thread has used."""
    with open(f"/proc/self/task/{thread.native_id}/stat", "rb") as file:  # noqa: PTH123
        fields = file.read().rpartition(b") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("end", ["reset", "closed"])
def test_a_node_that_is_gone_while_the_program_does_not_read_costs_nothing(quick, end):
    plain, node = quick
    node.setblocking(False)
    fill(node, os.urandom(16 * MIB))
    if end == "reset":
        node.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    node.close()
    assert_idle(0.4)
    # And it is told once it reads: it gets what was there, and then the end.
    got = 0
    with contextlib.suppress(ConnectionError):
        while part := plain.recv(MIB):
            got += len(part)
    assert got > MIB // 8
    wait_until(lambda: not relays())


def test_the_end_of_the_node_is_the_end_of_the_plain_socket(pair):
    plain, node = pair
    node.sendall(b"last words")
    node.close()
    assert exactly(plain, 10) == b"last words"
    assert plain.recv(1) == b""
    wait_until(lambda: not relays())


def test_a_node_that_is_killed_is_the_end_of_the_plain_socket(quick):
    plain, node = quick
    node.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    node.close()
    with contextlib.suppress(ConnectionError):
        assert plain.recv(1) == b""
    wait_until(lambda: not relays())


@pytest.mark.parametrize("how", ["close", "shutdown"])
def test_the_end_of_the_program_s_socket_is_the_node_s_after_the_last_words(pair, how):
    plain, node = pair
    words = os.urandom(150_000)
    plain.sendall(words)
    if how == "close":
        plain.close()
    else:
        plain.shutdown(socket.SHUT_RDWR)
    assert exactly(node, len(words)) == words
    assert node.recv(1) == b""
    node.close()
    wait_until(lambda: not relays())


def test_the_last_words_are_heard_though_the_node_says_something_meanwhile(quick):
    """Bytes that nobody reads would turn the end into a reset, and take them away."""
    plain, node = quick
    plain.settimeout(None)
    fill_size = 300_000
    sending = Threads(lambda: (plain.sendall(b"w" * fill_size), plain.close()))
    for _ in range(20):
        node.sendall(b"n" * 1000)
    sending.join()
    assert exactly(node, fill_size) == b"w" * fill_size
    node.close()


def test_the_last_words_are_for_a_second_at_most(quick):
    plain, node = quick
    plain.setblocking(False)
    fill(plain, os.urandom(64 * MIB))
    begun = time.monotonic()
    plain.close()
    wait_until(lambda: not relays(), 8)
    assert time.monotonic() - begun < 6
    node.close()


def test_garbage_on_the_wire_is_the_end_of_it(quick):
    plain, node = quick
    # As somebody between the two would: past TLS.
    raw = socket.socket(fileno=os.dup(node.fileno()))
    raw.sendall(b"\x17\x03\x03\x00\x10" + bytes(16))
    raw.close()
    assert plain.recv(1) == b""
    wait_until(lambda: not relays())


async def test_a_connection_of_the_port_over_it(quick):
    """Its reader polls the descriptor, its writer writes from another thread."""
    plain, node = quick
    port = PortConnection(name="sidecar", version="1")
    standing = asyncio.create_task(port.stand_by(plain.fileno(), Liveness(0.02, 5.0), 0))
    read = FrameReader(1024).feed(await asyncio.to_thread(node.recv, 40))
    assert isinstance(decode_message(next(iter(read))), Heartbeat)
    await asyncio.to_thread(node.close)
    with pytest.raises(Disconnected):
        await standing
    await port.close()
