"""TLS as a plain socket: a thread passes on what goes in and out.

`PortConnection` reads and writes a descriptor, from two threads; OpenSSL's state is for one.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_A = TypeVar("_A")
_R = TypeVar("_R")

#: Bytes of one read, and what waits in one direction at most.
_READ: Final = 64 * 1024
#: Seconds for what waits when the program closes its end.
_LAST_WORDS: Final = 1.0


class TlsRelay:
    """The two sockets and the thread between them; the end of one is the end of both."""

    def __init__(self, secured: ssl.SSLSocket, plain: socket.socket) -> None:
        self._secured = secured
        self._plain = plain
        self._outgoing = b""
        self._incoming = b""
        # What OpenSSL waits for before it can go on, whoever asked.
        self._wanted = 0

    @classmethod
    def start(cls, secured: ssl.SSLSocket) -> socket.socket:
        """Take over a TLS socket after its handshake; the plain socket in its place."""
        ours, theirs = socket.socketpair()
        secured.setblocking(False)
        ours.setblocking(False)
        relay = cls(secured, ours)
        threading.Thread(target=relay.run, name="tls", daemon=True).start()
        return theirs

    def run(self) -> None:
        """Pass on until one of them ends."""
        # Whoever reads the other end learns of an error by the end of it.
        with contextlib.suppress(OSError):
            while self._pass_on() and self._wait():
                pass
        with contextlib.suppress(OSError):
            self._plain.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            self._last_words()
        self._plain.close()
        with contextlib.suppress(OSError):
            self._secured.close()

    def _pass_on(self) -> bool:
        """Move what can be moved; False at the end of either."""
        moved = True
        self._wanted = 0
        while moved:
            moved = False
            if not self._incoming and (data := self._secure(self._secured.recv, _READ)) is not None:
                if not data:
                    return False
                self._incoming, moved = data, True
            if not self._outgoing and (data := self._from_plain()) is not None:
                if not data:
                    return False
                self._outgoing, moved = data, True
            if self._incoming and (passed := self._to_plain()):
                self._incoming, moved = self._incoming[passed:], True
            if self._outgoing and (sent := self._secure(self._secured.send, self._outgoing)):
                self._outgoing, moved = self._outgoing[sent:], True
        return True

    def _secure(self, call: Callable[[_A], _R], argument: _A) -> _R | None:
        try:
            return call(argument)
        except ssl.SSLWantReadError:
            if call == self._secured.send:
                self._wanted |= select.POLLIN
        except ssl.SSLWantWriteError:
            self._wanted |= select.POLLOUT
        return None

    def _from_plain(self) -> bytes | None:
        try:
            return self._plain.recv(_READ)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            # The end, of a program that has not read everything.
            return b""

    def _to_plain(self) -> int:
        try:
            return self._plain.send(self._incoming)
        except BlockingIOError:
            return 0

    def _wait(self) -> bool:
        """Wait until something can be moved; False when the plain end was closed."""
        poll = select.poll()
        # While something in hand finds no room, nothing more is read; and what is not waited for is
        # not looked at, for its end would be told again and again.
        if secured := self._wanted | (0 if self._incoming else select.POLLIN):
            poll.register(self._secured, secured)
        plain = (0 if self._outgoing else select.POLLIN) | (select.POLLOUT if self._incoming else 0)
        poll.register(self._plain, plain)
        closed = select.POLLHUP | select.POLLERR
        return not any(fd == self._plain.fileno() and found & closed for fd, found in poll.poll())

    def _last_words(self) -> None:
        until = time.monotonic() + _LAST_WORDS
        self._secured.settimeout(_LAST_WORDS)
        self._outgoing = self._outgoing or self._from_plain() or b""
        while self._outgoing:
            self._secured.sendall(self._outgoing)
            self._outgoing = self._from_plain() or b""
        # What the node has said meanwhile is read: with it unread, close() would be a reset, which
        # takes away what is still on its way.
        self._secured.shutdown(socket.SHUT_WR)
        while time.monotonic() < until and self._secured.recv(_READ):
            pass
