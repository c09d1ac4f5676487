"""Telling systemd how the sidecar does: sd_notify(3), `Type=notify` and `WatchdogSec=`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from erlang_port.otp.coroutine_child import Started

#: Seconds between two words where systemd wants none.
_IDLE: Final = 3600.0


class Notifier:
    """Says it to the socket that systemd has given; to nobody where there is none.

    The watchdog is fed by the event loop: a loop that hangs is what it is to find.
    """

    def __init__(self) -> None:
        # Taken out, so that no worker speaks for the service.
        address = os.environ.pop("NOTIFY_SOCKET", None)
        microseconds = os.environ.pop("WATCHDOG_USEC", None)
        process = os.environ.pop("WATCHDOG_PID", None)
        mine = process is None or process == str(os.getpid())
        self._interval = _IDLE
        if microseconds is not None and microseconds.isdecimal() and int(microseconds) and mine:
            self._interval = int(microseconds) / 2e6
        self._socket: socket.socket | None = None
        if address:
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_UNIX, kind)
            self._address = f"\0{address[1:]}" if address.startswith("@") else address

    async def run(self, started: Started) -> None:
        """Say READY=1, then feed the watchdog until cancelled."""
        self._say("READY=1")
        started()
        try:
            while True:
                self._say("WATCHDOG=1")
                await asyncio.sleep(self._interval)
        finally:
            self._say("STOPPING=1")

    def status(self, text: str) -> None:
        """Say what `systemctl status` shows."""
        # A line is an assignment: what a node says makes none.
        self._say(f"STATUS={' '.join(text.split())}")

    def _say(self, text: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto(text.encode(errors="replace"), self._address)
