import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlang_port.frames import FrameError, FrameReader, frame

payloads = st.lists(st.binary(min_size=1, max_size=300), max_size=20)


@given(payloads=payloads, cuts=st.lists(st.integers(1, 700), max_size=40))
def test_however_the_stream_is_cut_the_payloads_come_whole_and_in_order(payloads, cuts):
    stream = b"".join(map(frame, payloads))
    reader = FrameReader(300)
    received, position = [], 0
    for cut in [*cuts, len(stream)]:
        received += reader.feed(stream[position : position + cut])
        position += cut
    assert received == payloads
    assert reader.buffered == 0


def test_a_large_frame_in_small_chunks():
    payload = bytes(range(256)) * 16384
    stream = frame(payload) + frame(b"next")
    reader = FrameReader(len(payload))
    received = []
    for position in range(0, len(stream), 4096):
        received += reader.feed(stream[position : position + 4096])
    assert received == [payload, b"next"]


def test_the_longest_payload_is_accepted_and_one_byte_more_is_not():
    reader = FrameReader(10)
    assert reader.feed(frame(b"x" * 10)) == [b"x" * 10]
    with pytest.raises(FrameError, match="11 bytes, more than 10"):
        reader.feed(frame(b"x" * 11))


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\xff\xff\xff\xffgarbage"])
def test_a_length_beyond_the_limit_is_refused_before_its_payload_comes(data):
    with pytest.raises(FrameError, match="4294967295 bytes"):
        FrameReader(1024).feed(data)


def test_an_empty_frame_is_refused():
    with pytest.raises(FrameError, match="length 0"):
        FrameReader(1024).feed(b"\0\0\0\0")


def test_a_length_beyond_the_limit_is_refused_behind_a_whole_frame():
    with pytest.raises(FrameError):
        FrameReader(16).feed(frame(b"ok") + b"\xff\xff\xff\xff")
