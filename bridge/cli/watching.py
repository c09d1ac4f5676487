"""Following a broadcast to its end, for `megaphone broadcast --watch` and the demo."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bridge.attach.ejabberdctl import OUTPUT_LIMIT
from bridge.cli.errors import CommandError, ExitStatus

if TYPE_CHECKING:
    from rich.console import Console

    from bridge.cli.control import Commands

#: Seconds between two looks.
INTERVAL: Final = 0.25

#: Seconds that one look by HTTP may take before ejabberdctl is asked instead.
HTTP_TIMEOUT: Final = 2.0

#: Seconds without any answer after which following ends; the broadcast goes on.
SILENCE: Final = 60.0

#: Seconds between two lines where there is no terminal.
LINE_INTERVAL: Final = 5.0

_ENDED: Final = frozenset({"done", "failed"})


class Follower:
    """Where a broadcast's state comes from: the bridge's /v1/status, else ejabberdctl.

    HTTP is asked first because an ejabberdctl call starts an Erlang VM: half a second of a core.
    """

    def __init__(self, ctl: Commands, broadcast: str, url: str | None) -> None:
        self._ctl = ctl
        self._broadcast = broadcast
        self._url = f"{url.rstrip('/')}/v1/status" if url and url.startswith("http://") else None
        # An operator's proxy knows nothing of this machine's loopback.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def look(self) -> dict[str, Any]:
        """Returns the broadcast as it is now.

        Raises:
            CommandError: As `Commands.json`; FAILURE when the node knows no such broadcast.
        """
        return self._by_http() or self._by_ejabberdctl()

    def _by_http(self) -> dict[str, Any] | None:
        if self._url is None:
            return None
        try:
            with self._opener.open(self._url, timeout=HTTP_TIMEOUT) as response:
                document = json.loads(response.read(OUTPUT_LIMIT))
            listed: list[dict[str, Any]] = document["broadcasts"]
            return next(entry for entry in listed if entry["id"] == self._broadcast)
        except urllib.error.HTTPError as error:
            error.close()  # The answer holds the connection.
            return None
        except (
            OSError,
            http.client.HTTPException,
            ValueError,
            TypeError,
            KeyError,
            StopIteration,
        ):
            return None

    def _by_ejabberdctl(self) -> dict[str, Any]:
        answer = self._ctl.json("megaphone_broadcast_status", self._broadcast)
        if isinstance(error := answer.get("error"), dict):
            raise CommandError(
                f"the node knows no broadcast {self._broadcast}: {error.get('what')}",
                "it may have restarted since; megaphone status lists what it knows",
                ExitStatus.FAILURE,
            )
        return answer


def follow(ctl: Commands, broadcast: str, console: Console) -> dict[str, Any]:
    """Shows the progress of a broadcast until it has ended.

    Args:
        ctl: The node.
        broadcast: Its id.
        console: A bar on a terminal, else a line now and then.

    Returns:
        The broadcast's last state.

    Raises:
        CommandError: INTERRUPTED after Ctrl-C, TIMEOUT when nothing answers for a minute; the
            broadcast goes on in both cases.
    """
    bridge = ctl.json("megaphone_status").get("bridge")
    url = bridge.get("http") if isinstance(bridge, dict) else None
    follower = Follower(ctl, broadcast, url if isinstance(url, str) else None)
    try:
        if console.is_terminal and not console.quiet:
            return _with_bar(follower, console)
        return _with_lines(follower, console)
    except KeyboardInterrupt as error:
        raise CommandError(
            f"no longer watching; the broadcast {broadcast} goes on",
            "megaphone status shows it",
            ExitStatus.INTERRUPTED,
        ) from error


def _with_bar(follower: Follower, console: Console) -> dict[str, Any]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("resolving", total=None)
        watch = _Watch(follower)
        while (state := watch.next()).get("state") not in _ENDED:
            resolving = state.get("state") == "resolving"
            progress.update(
                task,
                description=str(state.get("state")),
                completed=treated(state),
                total=None if resolving else _number(state, "recipients"),
            )
        return state


def _with_lines(follower: Follower, console: Console) -> dict[str, Any]:
    watch = _Watch(follower)
    spoken = float("-inf")
    while (state := watch.next()).get("state") not in _ENDED:
        if time.monotonic() - spoken >= LINE_INTERVAL:
            spoken = time.monotonic()
            console.print(
                f"{state.get('state')}: {treated(state)} of {_number(state, 'recipients')}",
                markup=False,
            )
    return state


class _Watch:
    """One look after another, with a pause, and an end to silence."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._first = True
        self._heard = time.monotonic()

    def next(self) -> dict[str, Any]:
        while True:
            if not self._first:
                time.sleep(INTERVAL)
            self._first = False
            try:
                state = self._follower.look()
            except CommandError as error:
                passing = {ExitStatus.TIMEOUT, ExitStatus.NODE_NOT_RUNNING}
                if error.status not in passing or time.monotonic() - self._heard > SILENCE:
                    raise
            else:
                self._heard = time.monotonic()
                return state


def treated(broadcast: dict[str, Any]) -> int:
    """How many recipients have met their fate, whatever it was."""
    return sum(_number(broadcast, name) for name in ("sent", "gone", "dropped", "failed"))


def _number(broadcast: dict[str, Any], name: str) -> int:
    value = broadcast.get(name)
    return value if isinstance(value, int) else 0
