"""The port program: what the node starts, `python -I -u -m bridge.port_program [--check]`.

Its first acts come before any import but the standard library's, so that whatever an import prints,
raises or starts finds the port out of its reach.

Exit statuses:
    0   stopped by SIGTERM; with --check, everything is in order
    1   an import failed, or the configuration cannot be used: --check says which
    2   a wrong command line, or not started by a node (descriptors 3 and 4 are not open)
    3   the connection to the node is over: the node ended or closed it, was silent, or broke the
        protocol
    4   a part of the program failed again and again
"""

from __future__ import annotations

import sys
from typing import Final

from erlang_port import startup

STOPPED: Final = 0
UNUSABLE: Final = 1
USAGE: Final = 2
DISCONNECTED: Final = 3
FAILED: Final = 4


def main(arguments: list[str]) -> int:
    """Run the program; its exit status."""
    match arguments:
        case []:
            return run()
        case ["--check"]:
            return check()
    sys.stderr.write("usage: python -I -u -m bridge.port_program [--check]\n")
    return USAGE


def run() -> int:
    """Serve the node that started this process; the exit status."""
    try:
        descriptors = startup.claim_port()
    except startup.NotAPort as error:
        sys.stderr.write(f"{error}\n")
        return USAGE
    startup.claim_environment()
    startup.die_with_parent()
    output = startup.OutputCapture()
    output.start()
    try:
        return serve(descriptors, output)
    finally:
        # Before the interpreter writes the traceback of what ends it.
        output.stop()


def serve(descriptors: tuple[int, int], output: startup.OutputCapture) -> int:
    """Serve the node at the end of two descriptors; the exit status."""
    import asyncio

    from bridge import config
    from bridge.app import Failed, Megaphone, PortWay
    from erlang_port.otp.application import ApplicationError
    from erlang_port.transports.fds import Disconnected

    async def application() -> int:
        try:
            await Megaphone(configuration, PortWay(descriptors, output)).run()
        except (Disconnected, ApplicationError) as error:
            sys.stderr.write(f"{error}\n")
            return DISCONNECTED
        except Failed as error:
            sys.stderr.write(f"{error}\n")
            return FAILED
        return STOPPED

    try:
        configuration = config.load()
    except config.ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return UNUSABLE
    return asyncio.run(application())


def check() -> int:
    """Import everything and load the configuration, without a port; the exit status.

    The node runs it when a program died before its hello, and logs what it prints.
    """
    from bridge import app, config
    from bridge.fanout import worker
    from bridge.version import __version__

    del app, worker
    try:
        config.load()
    except config.ConfigurationError as error:
        sys.stdout.write(f"configuration: {error}\n")
        return UNUSABLE
    version = sys.version.split(maxsplit=1)[0]
    sys.stdout.write(f"OK: megaphone {__version__}, Python {version}, {sys.executable}\n")
    return STOPPED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
