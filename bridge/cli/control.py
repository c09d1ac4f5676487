"""Where commands go to the node by: the socket of the sidecar that runs here, or ejabberdctl."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

from bridge import config
from bridge.attach.ejabberdctl import OUTPUT_LIMIT, Ejabberdctl
from bridge.cli.errors import CommandError, ExitStatus

#: Seconds that an answer may take: a little more than the sidecar gives the node.
TIMEOUT: Final = 35.0

_REQUESTS: Final = {
    "megaphone_status": ("GET", "/v1/status"),
    "megaphone_broadcast": ("POST", "/v1/broadcasts"),
    "megaphone_broadcast_status": ("GET", "/v1/broadcasts/"),
}


class Commands(Protocol):
    """ejabberd's commands of Megaphone, see docs/protocol.md."""

    def json(self, command: str, *arguments: str) -> dict[str, Any]:
        """Give a command's document.

        Raises:
            CommandError: there is none.
        """


def reach(ejabberdctl: str | None) -> Commands:
    """Choose the way: ejabberdctl where it was named, a sidecar's socket where one is configured.

    Raises:
        CommandError: CONFIGURATION, or as `Ejabberdctl.find`.
    """
    if ejabberdctl is None:
        try:
            settings = config.load().sidecar
        except config.ConfigurationError as error:
            raise CommandError(str(error), "mend it", ExitStatus.CONFIGURATION) from None
        if settings.configured:
            return ControlSocket(settings.control_socket)
    return Ejabberdctl.find(ejabberdctl)


class ControlSocket:
    """The socket of a sidecar."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def json(self, command: str, *arguments: str) -> dict[str, Any]:
        """See `Commands`.

        Raises:
            CommandError: PORT_PROGRAM_DOWN: no sidecar runs here; PERMISSION; TIMEOUT;
                NODE_NOT_RUNNING: it is not the one that is connected to the node.
        """
        method, path = _REQUESTS[command]
        body = None
        if method == "POST":
            (body,) = arguments
        else:
            path += "".join(quote(argument, safe="") for argument in arguments)
        status, answer = self._ask(method, path, body)
        if status == http.client.SERVICE_UNAVAILABLE:
            raise CommandError(
                f"the node cannot be asked: {answer.get('reason')}",
                "megaphone status shows whether this sidecar is connected, or stands by",
                ExitStatus.NODE_NOT_RUNNING,
            )
        if status == http.client.REQUEST_ENTITY_TOO_LARGE:
            raise CommandError("the request is too long", "shorten the text", ExitStatus.USAGE)
        if status != http.client.OK:
            raise CommandError(f"the sidecar answers {status}", "see its log", ExitStatus.FAILURE)
        return answer

    def _ask(self, method: str, path: str, body: str | None) -> tuple[int, dict[str, Any]]:
        connection = _UnixConnection(self._path)
        try:
            connection.request(method, path, None if body is None else body.encode())
            response = connection.getresponse()
            document = json.loads(response.read(OUTPUT_LIMIT) or b"{}")
        except (FileNotFoundError, ConnectionRefusedError):
            raise CommandError(
                f"no sidecar runs here: nobody listens at {self._path}",
                "start it: megaphone sidecar",
                ExitStatus.PORT_PROGRAM_DOWN,
            ) from None
        except PermissionError:
            raise CommandError(
                f"{self._path} is another user's",
                "run this as the sidecar's user",
                ExitStatus.PERMISSION,
            ) from None
        except TimeoutError:
            raise CommandError(
                f"the sidecar did not answer within {TIMEOUT:g} s",
                "see its log; what was asked may still happen",
                ExitStatus.TIMEOUT,
            ) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise CommandError(
                f"the sidecar's answer cannot be read: {error}", "see its log", ExitStatus.FAILURE
            ) from None
        finally:
            connection.close()
        return response.status, document if isinstance(document, dict) else {}


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(str(self._path))
