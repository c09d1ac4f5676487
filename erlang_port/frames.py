"""Frames: a length of four bytes, big-endian, and a payload of that many bytes. Sans-I/O.

docs/protocol.md, "Frames". Both ends frame for themselves, with a limit: a length taken on trust
makes the reader reserve up to 4 GiB.
"""

#: Bytes of the length before each payload.
HEADER = 4
#: The longest payload accepted before the peer's hello has said more, bytes.
MAX_BEFORE_HELLO = 64 * 1024
#: The longest payload that this end accepts after it, bytes. Default 4 MiB.
MAX_FRAME = 4 * 1024 * 1024


class FrameError(ValueError):
    """A length that no frame of this connection has; nothing after it can be trusted."""


def frame(payload: bytes) -> bytes:
    """The payload with its length before it."""
    return len(payload).to_bytes(HEADER, "big") + payload


class FrameReader:
    """Cuts a stream of bytes into payloads.

    Attributes:
        max_payload: The longest payload accepted, bytes.
    """

    __slots__ = ("_buffer", "_wanted", "max_payload")

    def __init__(self, max_payload: int = MAX_BEFORE_HELLO) -> None:
        self.max_payload = max_payload
        self._buffer = bytearray()
        self._wanted = HEADER

    @property
    def buffered(self) -> int:
        """Bytes of a frame that is not whole yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read; return the payloads that are whole now.

        Raises:
            FrameError: A length of 0, or one beyond `max_payload`.
        """
        buffer = self._buffer
        buffer += data
        if len(buffer) < self._wanted:
            return []
        payloads = []
        position = 0
        available = len(buffer)
        while available - position >= HEADER:
            size = int.from_bytes(buffer[position : position + HEADER], "big")
            if size == 0:
                raise FrameError("a frame of length 0")
            if size > self.max_payload:
                raise FrameError(f"a frame of {size} bytes, more than {self.max_payload}")
            end = position + HEADER + size
            if end > available:
                break
            payloads.append(bytes(memoryview(buffer)[position + HEADER : end]))
            position = end
        del buffer[:position]
        self._wanted = HEADER
        if len(buffer) >= HEADER:
            self._wanted += int.from_bytes(buffer[:HEADER], "big")
        return payloads
