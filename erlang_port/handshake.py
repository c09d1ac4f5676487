"""The sidecar's side of the handshake on a socket, without I/O: docs/protocol.md, "Handshake".

    sidecar                                      node
    open       random number             ──▶
                                         ◀──     challenge  random number
    proof      of the secret, and a claim ─▶
                                         ◀──     accepted   proof of the secret, times; or a refusal

Each proves by a keyed digest (HMAC-SHA256, RFC 2104) over both numbers that it knows the secret.
The node proves second: who does not know the secret gets nothing to guess against.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

#: Bytes.
NONCE: Final = 32
INSTANCE: Final = 16
MIN_SECRET: Final = 32
MAX_SECRET: Final = 4096
#: The longest message of the node's.
MAX_MESSAGE: Final = 1024

_MAGIC: Final = b"megaphone\x01"
_PROOF: Final = 32
_TOLD: Final = struct.Struct(">II")
_ACCEPTED: Final = 1 + _PROOF + _TOLD.size


class HandshakeError(ConnectionError):
    """There is no connection: the node refused it, or is none that knows the secret."""


class WrongSecret(HandshakeError):  # noqa: N818  # what was refused
    """The node has another secret: to say this one again helps nobody."""


class SecretError(ValueError):
    """The file holds no secret; the text says what to do."""


class Accepted(NamedTuple):
    """What the node said at the end. Seconds."""

    heartbeat_interval: float
    heartbeat_timeout: float


class Handshake:
    """One handshake.

    Args:
        secret: What both know.
        identity: What the sidecar is called: 1 to 64 characters of printable ASCII, no blank.
        instance: Which of its lives this is, 16 random bytes: the same for each connection.
        epoch: The highest epoch that it has seen.
    """

    def __init__(self, secret: bytes, identity: str, instance: bytes, epoch: int) -> None:
        self._secret = secret
        self._claim = instance + epoch.to_bytes(8, "big") + identity.encode("ascii")
        self._nonce = secrets.token_bytes(NONCE)
        self._peer = b""

    def open(self) -> bytes:
        """The first message."""
        return _MAGIC + self._nonce

    def prove(self, challenge: bytes) -> bytes:
        """The answer to the node's challenge.

        Raises:
            HandshakeError: It is a refusal, or none of a node.
        """
        if len(challenge) != len(_MAGIC) + NONCE or not challenge.startswith(_MAGIC):
            raise _refusal(challenge)
        self._peer = challenge[len(_MAGIC) :]
        return self._proof(b"sidecar", self._claim) + self._claim

    def accepted(self, answer: bytes) -> Accepted:
        """Take the node's last message.

        Raises:
            HandshakeError: It is a refusal, or the node does not know the secret.
        """
        if len(answer) != _ACCEPTED or answer[0] != 0:
            raise _refusal(answer)
        told = answer[1 + _PROOF :]
        if not hmac.compare_digest(answer[1 : 1 + _PROOF], self._proof(b"node", told)):
            raise HandshakeError("what answers does not know the secret: it is not the node")
        interval, timeout = _TOLD.unpack(told)
        return Accepted(interval / 1000, timeout / 1000)

    def _proof(self, word: bytes, told: bytes) -> bytes:
        said = (_MAGIC, bytes([len(word)]), word, self._nonce, self._peer, told)
        return hmac.digest(self._secret, b"".join(said), hashlib.sha256)


def read_secret(file: Path) -> bytes:
    """The secret of a file, without the end of its last line.

    Raises:
        SecretError: There is none.
    """
    remedy = f"make one with 'openssl rand -hex 32 > {file}' and give the node the same"
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_SECRET + 3)
    except FileNotFoundError:
        raise SecretError(f"{file} is not there: {remedy}") from None
    except OSError as error:
        raise SecretError(f"{file} cannot be read by this user: {error.strerror}") from None
    secret = content.rstrip(b"\r\n")
    if len(secret) < MIN_SECRET:
        raise SecretError(
            f"{file} holds {len(secret)} bytes, and a secret has {MIN_SECRET} at least: {remedy}"
        )
    if len(secret) > MAX_SECRET:
        raise SecretError(f"{file} holds more than {MAX_SECRET} bytes")
    return secret


def _refusal(message: bytes) -> HandshakeError:
    code, text = message[:1], message[1:].decode(errors="replace")
    if code in _CODES and text.isprintable():
        kind = WrongSecret if code == _WRONG_SECRET else HandshakeError
        return kind(f"the node refuses this sidecar: {text}")
    return HandshakeError(
        "what answers speaks no handshake of a node's: is it the address of sidecar.socket or port?"
    )


_WRONG_SECRET: Final = b"\x01"
_CODES: Final = frozenset(bytes([code]) for code in range(1, 7))
