"""Free TCP ports on loopback."""

from __future__ import annotations

import random
import socket
from typing import Final

from bridge.embedded_node.errors import EmbeddedNodeError

LOOPBACK: Final = "127.0.0.1"

#: Below Linux's range for outgoing connections (ip_local_port_range, 32768 and up), so that no
#: client's connection takes the port of a node that is being restarted.
_LOWEST: Final = 20_000
_HIGHEST: Final = 32_000

_TRIES: Final = 200


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As Erlang's listeners do: closed connections in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def choose(count: int) -> list[int]:
    """Different ports that are free now.

    Raises:
        EmbeddedNodeError: None were found.
    """
    chosen: list[int] = []
    for port in random.sample(range(_LOWEST, _HIGHEST), _TRIES):
        if len(chosen) == count:
            break
        if is_free(port):
            chosen.append(port)
    if len(chosen) < count:
        raise EmbeddedNodeError(
            f"no free TCP port on {LOOPBACK} between {_LOWEST} and {_HIGHEST}",
            "end some of the programs that listen there",
        )
    return chosen
