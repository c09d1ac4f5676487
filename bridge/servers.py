"""The operator's own gen_servers: `[servers.NAME]` of the configuration; see docs/servers.md."""

from __future__ import annotations

import functools
import importlib
import sys
from typing import TYPE_CHECKING, Final

from erlang_port.otp import gen_server, supervisor
from erlang_port.otp.gen_server import GenServer, StartError
from erlang_port.otp.supervisor import Backoff, ChildSpec, Flags, Tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from bridge.config import Server
    from erlang_port.otp.process import Process

#: How long one that ended is waited with.
BACKOFF: Final = Backoff(first=0.1, longest=60.0, stable=10.0)


def _find_modules_in(directories: Iterable[Path]) -> None:
    """Have modules found in directories of the operator's, after everything else.

    Last, so that no file of theirs takes the place of a module that Megaphone itself uses.
    """
    sys.path += [str(path) for path in directories if str(path) not in sys.path]


async def start_link(servers: Mapping[str, Server], python_path: Iterable[Path]) -> Process | None:
    """Start the supervisor that keeps them, linked to the process that runs now.

    None of them is a reason for its end: one that does not start, or ends too often, is waited for.

    Args:
        servers: By their names.
        python_path: Where their modules are.
    """
    _find_modules_in(python_path)
    children = [
        ChildSpec(
            name,
            start_server,
            (name, server),
            restart=server.restart,
            shutdown=server.shutdown,
            backoff=BACKOFF,
        )
        for name, server in servers.items()
    ]
    return await supervisor.start_link(Tree("servers", Flags(), children))


async def start_server(name: str, server: Server) -> Process | None:
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
