"""Prints in every way that there is while the port is in use."""

import asyncio
import ctypes
import os
import subprocess
import sys

from erlang_port import startup

startup.claim_environment()
fds = startup.claim_port()
capture = startup.OutputCapture()
capture.start()
startup.die_with_parent()

print("printed before the rest is imported")

from erlang_port.transports.fds import PortConnection  # noqa: E402  # the port first


def shell(script: str) -> None:
    subprocess.run(["sh", "-c", script], check=True, close_fds=False)


async def main() -> None:
    connection = PortConnection(name="noisy", version="1")
    await connection.connect(*fds)
    capture.attach(connection.log)
    libc = ctypes.CDLL(None)
    for n in range(50):
        print(f"print {n}")
        libc.printf(b"printf %d\n", n)
        libc.fflush(None)
        assert await connection.call("echo", n, 5) == n
    os.write(1, b"raw one\n")
    os.write(2, b"raw two\n")
    shell("echo from a child; echo to stderr >&2")
    shell("for fd in 3 4; do echo garbage >&$fd; done 2>/dev/null; true")
    print("é" * 10_000)
    sys.stderr.write("last words without a newline")
    await asyncio.to_thread(capture.stop, 2)
    connection.cast("done", None)
    # Not before the VM has read it all.
    await connection.closed()


asyncio.run(main())
