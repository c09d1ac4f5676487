import socket
import threading

import pytest

from erlang_port.frames import FrameError, FrameReader, frame
from erlang_port.links import WorkerLink
from erlang_port.messages import batch, batch_done, decode_message, encode_message


@pytest.fixture
def ends():
    pool, worker = socket.socketpair()
    with pool, worker:
        yield pool, WorkerLink(worker.fileno())


def test_messages_come_one_by_one_and_the_end_is_none(ends):
    pool, link = ends
    messages = [batch(b"b", n, b"body") for n in range(3)]
    pool.sendall(b"".join(frame(encode_message(m)) for m in messages))
    pool.shutdown(socket.SHUT_WR)
    assert [link.receive() for _ in range(4)] == [*messages, None]


def test_a_long_answer_is_written_whole(ends):
    pool, link = ends
    answer = batch_done(b"b", 1, bytes(3_500_000))
    received = []

    def read():
        reader = FrameReader(4_000_000)
        while not received:
            received.extend(reader.feed(pool.recv(4096)))

    thread = threading.Thread(target=read)
    thread.start()
    link.send(answer)
    thread.join(20)
    assert [decode_message(payload) for payload in received] == [answer]


def test_garbage_is_an_error(ends):
    pool, link = ends
    pool.sendall(b"\xff\xff\xff\xff")
    with pytest.raises(FrameError):
        link.receive()


def test_a_port_program_that_is_gone(ends):
    pool, link = ends
    pool.close()
    with pytest.raises(OSError, match="pipe"):
        link.send(batch_done(b"b", 1, bytes(1_000_000)))
