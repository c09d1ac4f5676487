"""Where `megaphone demo` and `megaphone dashboard` play: a private node with Megaphone attached."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bridge.attach import installation
from bridge.attach.ejabberdctl import Ejabberdctl
from bridge.attach.installation import AttachRequest
from bridge.cli.errors import CommandError
from bridge.config import Http
from bridge.embedded_node import EmbeddedNode, NodeSettings

if TYPE_CHECKING:
    from rich.console import Console


#: Seconds until the port program listens, once it is connected.
LISTEN_TIMEOUT: Final = 15.0

_ANY_PORT: Final = {"MEGAPHONE_HTTP__PORT": "0"}


@dataclass(frozen=True, slots=True)
class Stage:
    """A private node that runs, with Megaphone attached.

    Attributes:
        node: The node.
        directory: For whatever else is made; all of it goes when the stage does.
        url: Where the port program answers HTTP, without a slash at the end; None: nowhere.
    """

    node: EmbeddedNode
    directory: Path
    url: str | None


@contextlib.contextmanager
def stage(console: Console, name: str, *, any_port: bool = False) -> Iterator[Stage]:
    """A private node with Megaphone, which is gone without a trace when the block ends.

    Args:
        console: Where its progress is told.
        name: Of the command, for the directory's name.
        any_port: Whether the port program answers HTTP on any free port, rather than on the usual
            one if that is free.

    Raises:
        CommandError: slixmpp is missing; the node did not start; Megaphone was not attached.
    """
    if importlib.util.find_spec("slixmpp") is None:
        raise CommandError(
            f"the {name}'s XMPP clients need slixmpp, which is not installed",
            "install it: pip install '.[demo]' in a checkout of Megaphone",
        )
    directory = Path(tempfile.mkdtemp(prefix=f"megaphone-{name}-"))
    environment = _ANY_PORT if any_port or not _usual_is_free() else {}
    node = EmbeddedNode(directory, NodeSettings(environment=environment))
    try:
        console.print("starting a private ejabberd")
        node.start()
        console.print(f"node {node.name}: 127.0.0.1:{node.c2s_port}, {directory}")
        request = AttachRequest(ejabberdctl=str(node.ejabberdctl), pid=node.pid)
        report = installation.attach(request, installation.plan(request), console.print)
        yield Stage(node, directory, _url(node, report.status))
    finally:
        console.print("stopping the node")
        with contextlib.suppress(CommandError):
            node.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _url(node: EmbeddedNode, status: dict[str, Any]) -> str | None:
    """Where the port program answers HTTP; it begins to listen a moment after it is connected."""
    ctl = Ejabberdctl.find(str(node.ejabberdctl))
    deadline = time.monotonic() + LISTEN_TIMEOUT
    while True:
        bridge = status.get("bridge") or {}
        if url := bridge.get("http"):
            return str(url).rstrip("/")
        if bridge.get("http_error") or time.monotonic() > deadline:
            return None
        status = ctl.json("megaphone_status")


def _usual_is_free() -> bool:
    """Whether no other Megaphone on this machine, nor anybody else, has the usual port."""
    usual = Http()
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((usual.host, usual.port))
        except OSError:
            return False
    return True
