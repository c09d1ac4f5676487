"""`megaphone sidecar` and `megaphone ready`."""

from __future__ import annotations

import http.client
import os
import sys
import urllib.error
import urllib.request
from typing import Annotated, Final

import typer

from bridge import config
from bridge.cli.errors import CommandError, ExitStatus

#: Seconds that the answer to `ready` may take.
TIMEOUT: Final = 5.0

#: Bytes of it that are read.
LIMIT: Final = 4096


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("sidecar")(sidecar)
    app.command("ready")(ready)


def sidecar(
    check: Annotated[
        bool, typer.Option("--check", help="Look at the configuration and the state, and end.")
    ] = False,
) -> None:
    """Connect to a node from beside it, and serve it until SIGTERM.

    Where to, and the secret, are in MEGAPHONE_SIDECAR__* variables or in the file of
    MEGAPHONE_CONFIG; the node's option `sidecar` of mod_megaphone is the other end.
    """
    # In place of this process: what the command line has imported is 15 MB.
    program = [sys.executable, "-I", "-u", "-m", "bridge.sidecar", *(["--check"] if check else [])]
    os.execv(sys.executable, program)  # noqa: S606  # no shell is wanted


def ready(
    url: Annotated[
        str | None,
        typer.Option("--url", help="Where it serves HTTP; the configured address when absent."),
    ] = None,
) -> None:
    """Ask the sidecar or port program that runs here whether it is ready; for health checks.

    Exit status 8 and the reason when it is not.
    """
    address = (url or _configured()).rstrip("/") + "/readyz"
    # A proxy knows nothing of this machine's loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        try:
            with opener.open(address, timeout=TIMEOUT) as response:
                said = _text(response.read(LIMIT))
        except urllib.error.HTTPError as error:
            why = _text(error.read(LIMIT)) or f"{address} answers {error.code}"
            raise CommandError(why, "", ExitStatus.PORT_PROGRAM_DOWN) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        text = " ".join(str(reason).split()) or type(error).__name__
        raise CommandError(f"{address}: {text}", "", ExitStatus.PORT_PROGRAM_DOWN) from None
    typer.echo(said)


def _configured() -> str:
    try:
        settings = config.load().http
    except config.ConfigurationError as error:
        raise CommandError(str(error), "mend it", ExitStatus.CONFIGURATION) from None
    if not settings.enabled or settings.port == 0:
        raise CommandError(
            "HTTP has no fixed port here",
            "set http.enabled and http.port",
            ExitStatus.CONFIGURATION,
        )
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # nothing is bound here
    host = anywhere.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _text(body: bytes) -> str:
    return "; ".join(body.decode(errors="replace").split("\n")).strip("; ")
