"""A port program that does nothing but answer, in Python: blocking, no event loop, no GenServer.

What a call costs more than this is what the port program's loop, thread and GenServer cost. See
echo.c for what it speaks.
"""

import os
import select
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from erlang_port.etf import Atom, Term, decode, encode

IN, OUT = 3, 4
FRAME = 4 * 1024 * 1024
STEP = FRAME // 2


def send(term: Term) -> None:
    """Write one frame."""
    payload = encode(term)
    data = memoryview(struct.pack(">I", len(payload)) + payload)
    while data:
        data = data[os.write(OUT, data) :]


def request_of(body: bytes) -> bytes:
    """The request in `{Pid, Request, infinity}`, as a term of its own."""
    # Version, tuple, the pid's tag; then its node's name and twelve bytes.
    size = 2 + body[5] if body[4] in {115, 119} else 3 + int.from_bytes(body[5:7], "big")
    tail = 10 if body[-10] == 119 else 11
    return b"\x83" + body[4 + size + 12 : -tail]


def greet() -> None:
    """Say hello and start the process `echo`."""
    send(
        (
            Atom("hello"),
            {
                b"protocol": [1],
                b"capabilities": [b"calls", b"processes"],
                b"max_frame": FRAME,
                b"credit": 2 * FRAME,
                b"version": b"0",
                b"name": b"echo",
                b"os_pid": os.getpid(),
            },
        )
    )
    start = (Atom("start"), 1, [(Atom("local"), b"echo")])
    send((Atom("call"), 1, b"processes", start, 5000))


def main() -> None:
    """Answer until the node closes the port."""
    buffer = b""
    owed = beats = 0
    greeted = False
    reply, signals = Atom("reply"), Atom("signals")
    beat = time.monotonic()
    while True:
        if select.select([IN], [], [], 0.5)[0]:
            data = os.read(IN, 64 * 1024)
            if not data:
                return
            buffer += data
        while len(buffer) >= 4 and len(buffer) - 4 >= (size := int.from_bytes(buffer[:4], "big")):
            message, buffer = decode(buffer[4 : 4 + size]), buffer[4 + size :]
            if not greeted:
                greet()
                greeted = True
            elif message[0] == "signals":
                owed += size + 4
                send(
                    (
                        signals,
                        [
                            (process, reply, ref, request_of(body))
                            for process, kind, ref, body in message[1]
                            if kind == "call"
                        ],
                    )
                )
            elif message[0] == "replies":
                owed += size + 4
        if owed >= STEP:
            send((Atom("credit"), owed))
            owed = 0
        if greeted and time.monotonic() - beat > 1:
            beat, beats = time.monotonic(), beats + 1
            send((Atom("heartbeat"), beats, 0))


if __name__ == "__main__":
    main()
