"""The worker's end of its link to the port program: blocking, and small in memory.

The link is a socketpair that carries the same frames as the port, without credit and heartbeats:
the pool sends one message and waits for its answer (docs/protocol.md, "hello").
"""

import os

from erlang_port.frames import MAX_FRAME, FrameReader, frame
from erlang_port.messages import Message, decode_message, encode_message

_READ = 256 * 1024


class WorkerLink:
    """Frames over one descriptor, read and written in turn.

    Args:
        fd: The worker's end of the socketpair.
    """

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, True)
        self._fd = fd
        self._reader = FrameReader(MAX_FRAME)
        self._payloads: list[bytes] = []

    def receive(self) -> Message | None:
        """Wait for the next message; None when the port program has closed the link.

        Raises:
            EtfError: What came is no term.
            FrameError: What came is no frame.
            MessageError: What came is no message.
        """
        while not self._payloads:
            data = os.read(self._fd, _READ)
            if not data:
                return None
            self._payloads = self._reader.feed(data)
        return decode_message(self._payloads.pop(0))

    def send(self, message: Message) -> None:
        """Write a message, whole.

        Raises:
            OSError: The port program is gone.
        """
        view = memoryview(frame(encode_message(message)))
        while view:
            view = view[os.write(self._fd, view) :]
