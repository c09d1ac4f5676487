"""The operator's own gen_servers: `[servers.NAME]` of the configuration; see docs/servers.md."""

from __future__ import annotations

import functools
import importlib
import sys
from typing import TYPE_CHECKING

from erlang_port.otp import gen_server
from erlang_port.otp.gen_server import GenServer, StartError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bridge.config import Server
    from erlang_port.otp.process import Process


def find_modules_in(directories: Iterable[Path]) -> None:
    """Have modules found in directories of the operator's, after everything else.

    Last, so that no file of theirs takes the place of a module that Megaphone itself uses.
    """
    sys.path += [str(path) for path in directories if str(path) not in sys.path]


async def start_link(name: str, server: Server) -> Process | None:
    """Start one of them, linked to the process that runs now.

    Args:
        name: Its name, for Erlang too.
        server: What the configuration says of it.

    Raises:
        StartError: There is no such class, its `init` failed, or its name is taken.
    """
    return await gen_server.start_link(_class(server.start), server.args, name=(server.scope, name))


@functools.cache
def _class(place: str) -> type[GenServer[object]]:
    module, _, name = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise StartError(f"servers: {place}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, GenServer)):
        raise StartError(f"servers: {place} is no GenServer")
    return found
