"""The sidecar, as a process: `python -I -u -m bridge.sidecar [--check]`.

Exit statuses:
    0   stopped by SIGTERM or SIGINT; with --check, everything is in order
    1   the configuration or the state directory cannot be used; with --check, the secret or a
        certificate neither
    2   a wrong command line
    4   a part of the program failed again and again
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Final

from bridge import config, logs
from bridge.app import Failed, Megaphone
from bridge.sidecar import connector
from bridge.sidecar.notify import Notifier
from bridge.sidecar.state import State, StateError
from bridge.sidecar.way import SidecarWay
from bridge.version import __version__
from erlang_port.handshake import SecretError
from erlang_port.otp.application import ApplicationError

STOPPED: Final = 0
UNUSABLE: Final = 1
USAGE: Final = 2
FAILED: Final = 4


def main(arguments: list[str]) -> int:
    """Run the program; its exit status."""
    if arguments not in ([], ["--check"]):
        return _say("usage: python -I -u -m bridge.sidecar [--check]", USAGE)
    notifier = Notifier()
    try:
        configuration = config.load()
    except config.ConfigurationError as error:
        return _say(f"configuration: {error}", UNUSABLE)
    if not configuration.sidecar.configured:
        return _say(
            "configuration: there is no node to connect to: set sidecar.socket, or sidecar.host and"
            " sidecar.port (MEGAPHONE_SIDECAR__SOCKET=/run/megaphone/node.sock)",
            UNUSABLE,
        )
    try:
        state = State.open(configuration.sidecar.state_dir, configuration.sidecar.identity)
    except StateError as error:
        return _say(f"state: {error}", UNUSABLE)
    if arguments:
        return _check(configuration, state)
    logs.write(sys.stderr, configuration.log)
    return asyncio.run(_run(configuration, state, notifier))


def _check(configuration: config.Configuration, state: State) -> int:
    state.close()
    if state.error is not None:
        return _say(f"state: {state.error}", UNUSABLE)
    try:
        connector.check(configuration.sidecar)
    except SecretError as error:
        return _say(f"secret: {error}", UNUSABLE)
    except OSError as error:
        return _say(f"TLS: {error}", UNUSABLE)
    return _say(f"OK: megaphone {__version__}, {state.identity}", STOPPED)


async def _run(configuration: config.Configuration, state: State, notifier: Notifier) -> int:
    way = SidecarWay(configuration.sidecar, state, notifier)
    try:
        await Megaphone(configuration, way).run((signal.SIGTERM, signal.SIGINT))
    except (Failed, ApplicationError) as error:
        return _say(str(error), FAILED)
    return STOPPED


def _say(text: str, status: int) -> int:
    sys.stderr.write(f"megaphone: {text}\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
