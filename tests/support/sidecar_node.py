"""A node's listener for sidecars, in Python: docs/protocol.md's handshake, and frames after it.

What is computed here is computed by the document, and shares nothing with `erlang_port.handshake`.
"""

import asyncio
import contextlib
import hmac
import os
import ssl
import struct
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from erlang_port.etf import Term, decode, encode
from erlang_port.frames import MAX_FRAME, FrameReader, frame
from erlang_port.messages import (
    Call,
    Credit,
    Heartbeat,
    Hello,
    Message,
    Replies,
    Reply,
    decode_message,
    encode_message,
)

T = TypeVar("T", bound=Message)

SECRET = b"a secret of thirty-two bytes, and a few"
MAGIC = b"megaphone\x01"
#: Seconds that a test waits for the other end.
PATIENCE = 10.0


def proof(secret: bytes, word: bytes, sidecar: bytes, node: bytes, told: bytes) -> bytes:
    """docs/protocol.md, "Handshake"; the numbers of both, and what stands beside the proof."""
    said = b"".join([b"megaphone", b"\x01", bytes([len(word)]), word, sidecar, node, told])
    return hmac.new(secret, said, "sha256").digest()


def acceptance(
    secret: bytes, sidecar: bytes, node: bytes, interval: int = 1000, timeout: int = 10_000
) -> bytes:
    """The node's last message; milliseconds."""
    told = struct.pack(">II", interval, timeout)
    return b"\0" + proof(secret, b"node", sidecar, node, told) + told


class Connection:
    """One connection, as the node has it.

    Attributes:
        identity, instance, epoch: What the sidecar has claimed.
        hello_back: The sidecar's own hello.
        answers: What is answered to calls, by name, by whoever waits for a message.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.identity, self.instance, self.epoch = "", b"", -1
        self.hello_back: dict[bytes, Term] = {}
        self.messages: list[Message] = []
        self.answers: dict[bytes, Callable[[Any], Term]] = {}
        self._frames = FrameReader(MAX_FRAME)
        self._next_id = 0

    async def say(self, message: bytes) -> None:
        """A message of the handshake."""
        self.writer.write(struct.pack(">I", len(message)) + message)
        await self.writer.drain()

    async def heard(self) -> bytes:
        (size,) = struct.unpack(">I", await self.reader.readexactly(4))
        return await self.reader.readexactly(size)

    async def challenge(self) -> tuple[bytes, bytes]:
        """Up to the node's own challenge: the two random numbers."""
        opening = await self.heard()
        assert opening[:10] == MAGIC
        assert len(opening) == 42
        node = os.urandom(32)
        await self.say(MAGIC + node)
        return opening[10:], node

    async def prove(self, secret: bytes, sidecar: bytes, node: bytes) -> None:
        """Take the sidecar's proof, which has to be right."""
        message = await self.heard()
        claim = message[32:]
        assert message[:32] == proof(secret, b"sidecar", sidecar, node, claim)
        self.instance, self.identity = claim[:16], claim[24:].decode()
        self.epoch = int.from_bytes(claim[16:24], "big")

    async def accept(self, secret: bytes = SECRET, **times: int) -> None:
        """A whole handshake."""
        sidecar, node = await self.challenge()
        await self.prove(secret, sidecar, node)
        await self.say(acceptance(secret, sidecar, node, **times))

    # Frames.

    def send(self, *messages: Message) -> None:
        self.write(b"".join(frame(encode_message(message)) for message in messages))

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def hello(self, epoch: int = 1, *, wait: bool = True, **changes: Term) -> None:
        """The sidecar's turn; waits for its own hello."""
        values = {
            "protocol": [1],
            "capabilities": [b"calls", b"batches", b"logs"],
            "max_frame": MAX_FRAME,
            "credit": 16 * MAX_FRAME,
            "heartbeat_interval": 1000,
            "heartbeat_timeout": 10_000,
            "version": b"0",
            "name": b"stub@localhost",
            "epoch": epoch,
        } | changes
        self.send(Hello({name.encode(): value for name, value in values.items()}))
        if wait:
            self.hello_back = (await self.receive(Hello)).values

    async def receive(self, kind: type[T]) -> T:
        """The next message of a kind; what comes before it is kept in `messages`."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for n, message in enumerate(self.messages):
                    if isinstance(message, kind):
                        del self.messages[n]
                        return message
                data = await self.reader.read(65536)
                if not data:
                    raise EOFError
                self._take(data)

    def _take(self, data: bytes) -> None:
        for payload in self._frames.feed(data):
            message = decode_message(payload)
            match message:
                case Call(call_id, name, request) if name in self.answers:
                    answer = encode(self.answers[name](request))
                    self.send(Replies([Reply(call_id, True, answer)]))
                case _:
                    self.messages.append(message)
            if not isinstance(message, Hello | Heartbeat | Credit):
                self.send(Credit(len(payload) + 4))

    async def call(self, name: bytes, request: Term, timeout_ms: int = 10_000) -> tuple[bool, Term]:
        """Calls the sidecar; its answer."""
        self._next_id += 1
        self.send(Call(self._next_id, name, request, timeout_ms))
        (reply,) = (await self.receive(Replies)).replies
        assert reply.id == self._next_id
        return reply.ok, decode(reply.answer)

    async def ended(self) -> None:
        """Waits until the other end is gone, whatever it still says."""
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                while await self.reader.read(65536):
                    pass

    async def close(self) -> None:
        self.writer.close()
        try:
            async with asyncio.timeout(PATIENCE):
                await self.writer.wait_closed()
        except (OSError, TimeoutError):
            self.writer.transport.abort()


Serve = Callable[[Connection], Awaitable[None]]


class SidecarNode:
    """Listens; `serve` is what it does with each connection, a whole handshake as a rule."""

    def __init__(self, serve: Serve = Connection.accept) -> None:
        self.serve = serve
        self.attempts = 0
        self.arrived: asyncio.Queue[Connection] = asyncio.Queue()
        self.path: Path | None = None
        self.port = 0
        self._servers: list[asyncio.Server] = []
        self._all: list[Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, path: Path) -> "SidecarNode":
        self.path = path
        self._servers.append(await asyncio.start_unix_server(self._connected, path))
        return self

    async def listen_tcp(
        self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> "SidecarNode":
        server = await asyncio.start_server(self._connected, host, 0, ssl=tls)
        self._servers.append(server)
        self.port = server.sockets[0].getsockname()[1]
        return self

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.attempts += 1
        connection = Connection(reader, writer)
        self._all.append(connection)
        try:
            await self.serve(connection)
        except (OSError, EOFError):
            await connection.close()
        else:
            await self.arrived.put(connection)

    async def connection(self) -> Connection:
        """The next one whose `serve` is done."""
        async with asyncio.timeout(PATIENCE):
            return await self.arrived.get()

    def deaf(self) -> None:
        """Listen no more; connections stay."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def close(self) -> None:
        self.deaf()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in self._all:
            await connection.close()


class Authority:
    """Certificates, made by openssl: `node.pem` for localhost, `sidecar.pem`, both with keys."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = directory / "ca.pem"
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test authority"),
            # Python wants it since 3.13, and openssl does not say it by itself.
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )
        self.node = self.issue("node", "DNS:localhost,IP:127.0.0.1")
        self.sidecar = self.issue("sidecar", "DNS:sidecar")

    def issue(self, name: str, names: str) -> Path:
        """A certificate and its key in one file."""
        self._openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"),
        )
        (self.directory / f"{name}.ext").write_text(f"subjectAltName={names}\n")
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.crt"),
        )
        whole = self.directory / f"{name}.pem"
        parts = [(self.directory / f"{name}.{end}").read_text() for end in ("crt", "key")]
        whole.write_text("".join(parts))
        return whole

    def server(self, *, wants_client: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.node)
        if wants_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.ca)
        return context

    def client(self, certificate: Path | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca))
        if certificate is not None:
            context.load_cert_chain(certificate)
        return context

    def _openssl(self, *arguments: str) -> None:
        command = ["openssl", *arguments]
        subprocess.run(command, cwd=self.directory, check=True, capture_output=True, timeout=30)
