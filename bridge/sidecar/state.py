"""What a sidecar keeps between two lives: its name, and the highest epoch that it has seen.

A directory is for one sidecar at a time. Each file is written whole or not at all, whenever the
program is killed.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import socket
from pathlib import Path
from typing import Final, Self

from erlang_port.protocol import MAX_EPOCH

_IDENTITY: Final = re.compile(r"[!-~]{1,64}")
#: An epoch's digits.
_EPOCH: Final = re.compile(r"[0-9]{1,15}")
#: Bytes of a file that are read.
_LIMIT: Final = 256


class StateError(Exception):
    """The directory cannot be used; the text says what to do."""


class State:
    """What is kept.

    Attributes:
        identity: What the sidecar is called.
        instance: This life of it, 16 random bytes; nothing that is kept.
        epoch: The highest one that it has seen.
        error: Why the last epoch could not be written, or None; known from the start.
    """

    def __init__(self, directory: Path, lock: int, identity: str | None) -> None:
        self._directory = directory
        self._lock = lock
        self.instance = secrets.token_bytes(16)
        self.identity = identity or self._own_identity()
        self.epoch = int(self._read("epoch", _EPOCH) or 0)
        if self.epoch > MAX_EPOCH:
            raise StateError(
                f"{directory / 'epoch'} holds {self.epoch}, which is no epoch: remove it"
            )
        self.error: str | None = None
        # Whether there is room is known now, and not at the first takeover.
        self.saw(self.epoch)

    @classmethod
    def open(cls, directory: Path, identity: str | None) -> Self:
        """Take a directory, which is made if need be.

        Args:
            directory: Where.
            identity: What the sidecar is called, whatever was kept; None: as it was kept.

        Raises:
            StateError: It cannot be written to, holds something else, or another sidecar has it.
        """
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(directory, error) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cls(directory, lock, identity)
        except BlockingIOError:
            os.close(lock)
            raise StateError(
                f"{directory} is another sidecar's, which runs:"
                " give each a sidecar.state_dir of its own"
            ) from None
        except OSError as error:
            # A file system that knows no locks.
            os.close(lock)
            raise _unusable(directory, error) from None
        except BaseException:
            os.close(lock)
            raise

    def close(self) -> None:
        """Leave the directory to others."""
        os.close(self._lock)

    def saw(self, epoch: int) -> None:
        """Keep an epoch. That it cannot be written is no reason to stop: see `error`."""
        self.epoch = max(self.epoch, epoch)
        try:
            self._write("epoch", str(self.epoch))
            self.error = None
        except StateError as error:
            self.error = str(error)

    def _own_identity(self) -> str:
        known = self._read("identity", _IDENTITY)
        if known is None:
            host = "".join(re.findall(r"[!-~]", socket.gethostname()))[:48]
            known = f"{host}-{secrets.token_hex(4)}"
            self._write("identity", known)
        return known

    def _read(self, name: str, wanted: re.Pattern[str]) -> str | None:
        file = self._directory / name
        try:
            with file.open("rb") as opened:
                text = opened.read(_LIMIT).decode("ascii", "replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(self._directory, error) from None
        if wanted.fullmatch(text) is None:
            raise StateError(f"{file} holds {text[:40]!r}, which is no {name}: remove it")
        return text

    def _write(self, name: str, text: str) -> None:
        written = self._directory / f".{name}.new"
        try:
            with written.open("w") as opened:
                opened.write(f"{text}\n")
                opened.flush()
                os.fsync(opened.fileno())
            written.replace(self._directory / name)
            directory = os.open(self._directory, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise _unusable(self._directory, error) from None


def _unusable(directory: Path, error: OSError) -> StateError:
    return StateError(
        f"{directory} cannot be used: {error.strerror}; sidecar.state_dir is to be a directory with"
        " room, which this user can write to"
    )
