import contextlib
import fcntl
import os
import threading
import time

import pytest

from erlang_port.frames import FrameReader, frame
from erlang_port.transports.writer import FrameWriter


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    # A page, the least that a pipe holds.
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    yield reading, writing
    for fd in (reading, writing):
        with contextlib.suppress(OSError):
            os.close(fd)


def test_many_threads_write_whole_frames_through_a_small_pipe(pipe):
    reading, writing = pipe
    writer = FrameWriter(writing, lambda: b"", lambda _: None)
    writer.start()
    payloads = {t: [bytes([t]) * (n * 37 % 50_000 + 1) for n in range(100)] for t in range(10)}

    def write(thread):
        for payload in payloads[thread]:
            writer.write([frame(payload)])

    threads = [threading.Thread(target=write, args=(t,)) for t in payloads]
    for thread in threads:
        thread.start()
    reader, received = FrameReader(60_000), []
    while len(received) < 1000:
        received += reader.feed(os.read(reading, 4000))
    for thread in threads:
        thread.join()
    writer.close(5)
    by_thread = {t: [p for p in received if p[0] == t] for t in payloads}
    assert by_thread == payloads
    assert writer.frames_sent == 1000


def test_what_a_write_leaves_is_written_next(pipe, monkeypatch):
    reading, writing = pipe
    write = os.write
    sizes = []

    def partial(fd, data):
        # What a signal does to a write that blocks.
        sizes.append(write(fd, data[: 1 + len(sizes) % 700]))
        return sizes[-1]

    monkeypatch.setattr("erlang_port.transports.writer.os.write", partial)
    writer = FrameWriter(writing, lambda: b"", lambda _: None)
    writer.start()
    payloads = [bytes([n]) * 1000 for n in range(1, 50)]
    writer.write([frame(payload) for payload in payloads])
    reader, received = FrameReader(1000), []
    while len(received) < len(payloads):
        received += reader.feed(os.read(reading, 500))
    writer.close(5)
    assert received == payloads
    assert len(sizes) > 100


def test_a_writer_that_is_busy_beats_in_time(pipe):
    reading, writing = pipe
    beat, other = frame(b"beat"), frame(b"x" * 30_000)
    writer = FrameWriter(writing, lambda: beat, lambda _: None)
    writer.start()
    writer.beat(0.01)
    reader, received = FrameReader(30_000), []
    while received.count(b"beat") < 4:
        # More than is read: the queue is never empty.
        writer.write([other, other])
        received += reader.feed(os.read(reading, 4096))
    assert received.count(b"beat") < len(received)
    os.close(reading)
    writer.close(5)


def test_an_idle_writer_beats(pipe):
    reading, writing = pipe
    writer = FrameWriter(writing, lambda: b"beat", lambda _: None)
    writer.start()
    writer.beat(0.01)
    received = b""
    while len(received) < 40:
        received += os.read(reading, 100)
    writer.close(5)
    assert received.replace(b"beat", b"") == b""


def test_a_heartbeat_waits_for_the_rest_of_a_frame(pipe):
    reading, writing = pipe
    writer = FrameWriter(writing, lambda: frame(b"beat"), lambda _: None)
    writer.start()
    # The pipe takes a part of it; a heartbeat has long been due when there is room for the rest.
    writer.write([frame(b"x" * 9000)])
    writer.beat(0.001)
    reader, received = FrameReader(9000), []
    while b"beat" not in received:
        received += reader.feed(os.read(reading, 1000))
    writer.close(5)
    assert received[:2] == [b"x" * 9000, b"beat"]


def test_closing_writes_what_is_queued(pipe):
    reading, writing = pipe
    writer = FrameWriter(writing, lambda: b"", lambda _: None)
    writer.start()
    writer.write([frame(b"last words")])
    writer.close(5)
    os.close(writing)
    assert os.read(reading, 100) == frame(b"last words")


def test_a_reader_that_is_gone_is_reported_once(pipe):
    reading, writing = pipe
    failures = []
    writer = FrameWriter(writing, lambda: b"", failures.append)
    os.close(reading)
    writer.start()
    writer.write([frame(b"x")])
    writer.close(5)
    assert [type(failure) for failure in failures] == [BrokenPipeError]


def test_the_time_that_writing_waits_for_the_pipe(pipe):
    reading, writing = pipe
    writer = FrameWriter(writing, lambda: b"", lambda _: None)
    writer.start()
    assert writer.busy_seconds == 0
    writer.write([frame(b"x" * 20_000)])
    # It grows while the write is still waiting, and never goes back.
    seen = [0.0]
    deadline = time.monotonic() + 10
    while seen[-1] < 0.1 and time.monotonic() < deadline:
        seen.append(writer.busy_seconds)
    assert seen[-1] >= 0.1
    reader, received = FrameReader(20_000), []
    while not received:
        received += reader.feed(os.read(reading, 4096))
        seen.append(writer.busy_seconds)
    writer.close(5)
    seen.append(writer.busy_seconds)
    assert seen == sorted(seen)
    assert writer.busy_seconds == seen[-1]
