import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.fanout import worker
from bridge.fanout.limits import MAX_TEMPLATES
from erlang_port.etf import Atom, decode, encode
from erlang_port.frames import FrameReader, frame
from erlang_port.messages import (
    BatchDone,
    BatchFailed,
    Call,
    Hello,
    Message,
    Replies,
    batch,
    decode_message,
    encode_message,
)
from tests.bridge.fanout.conftest import a_batch
from tests.support.processes import resident_bytes

MEMORY = 256 * 1024 * 1024


class RunningWorker:
    def __init__(self) -> None:
        self.link, theirs = socket.socketpair()
        self.link.settimeout(30)
        with theirs:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-u", "-m", "bridge.fanout.worker"),
                    *(str(theirs.fileno()), str(MEMORY)),
                ],
                pass_fds=[theirs.fileno()],
                stderr=subprocess.PIPE,
            )
        self._reader = FrameReader(1 << 23)
        hello = self.receive()
        assert isinstance(hello, Hello)
        self.hello = hello.values

    def receive(self) -> Message:
        while True:
            data = self.link.recv(1 << 18)
            assert data, "the worker ended"
            if payloads := self._reader.feed(data):
                (payload,) = payloads
                return decode_message(payload)

    def ask(self, message: Message) -> Any:
        self.link.sendall(frame(encode_message(message)))
        return self.receive()

    def prepare(self, request: Any) -> Any:
        answer = self.ask(Call(7, b"template", request, 1000))
        assert isinstance(answer, Replies)
        (reply,) = answer.replies
        assert reply.id == 7
        return reply.ok, decode(reply.answer)

    def end(self) -> tuple[int, str]:
        self.link.close()
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors.decode()


@pytest.fixture
def running() -> Iterator[RunningWorker]:
    running = RunningWorker()
    yield running
    running.process.kill()
    running.process.wait()
    running.link.close()
    assert running.process.stderr is not None
    running.process.stderr.close()


def test_it_says_who_it_is(running: RunningWorker) -> None:
    assert running.hello[b"name"] == b"worker"
    assert running.hello[b"os_pid"] == running.process.pid


def test_it_answers_what_it_is_asked(running: RunningWorker) -> None:
    done = running.ask(a_batch("b", 5, "Hi {{ user }}"))
    assert isinstance(done, BatchDone)
    assert (done.broadcast, done.n) == (b"b", 5)
    assert decode(done.body) == ([b"Hi romeo\0Hi juliet"], [])
    assert running.prepare((Atom("prepare"), [b"{{ jid }}"])) == (
        True,
        ("ok", {b"columns": [b"server", b"user"]}),
    )


def test_what_was_dropped_is_listed_with_its_reason(running: RunningWorker) -> None:
    done = running.ask(a_batch("b", 0, "{{ user }}", ["a", "\x01", "c"]))
    texts, dropped = decode(done.body)
    assert (texts, dropped) == ([b"a\0\0c"], [(1, "invalid")])
    assert isinstance(dropped[0][1], Atom)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "bad_batch"),
        (b"\x83", "bad_batch"),
        (encode(7), "bad_batch"),
        (encode(([b"{{ user }}"], 1, {})), "bad_batch"),
        (encode(([b"{{ 'x' * 5000000 }}"], 1, {})), "too_large"),
        (encode(([b"{{ 'x' * 10**9 }}"], 1, {})), "memory"),
        (encode(([b"{{ 'x' * 10**9 }}" + b" " * 50], 1, {})), "memory"),
    ],
)
def test_every_failure_is_an_answer_and_not_the_end(
    running: RunningWorker, body: bytes, reason: str
) -> None:
    failed = running.ask(batch(b"b", 1, body))
    assert isinstance(failed, BatchFailed)
    assert (failed.broadcast, failed.n, failed.reason) == (b"b", 1, reason)
    assert isinstance(running.ask(a_batch("b", 2, "{{ user }}")), BatchDone)


def test_the_texts_of_errors_hold_no_recipient(running: RunningWorker) -> None:
    for template in ("{{ user }}{{ nick }}", "{{ 'x' * 5000000 }}{{ user }}", "{{ user * 10**9 }}"):
        failed = running.ask(a_batch("b", 0, template, ["secret", "secret"]))
        assert isinstance(failed, BatchFailed)
        assert b"secret" not in failed.text


@pytest.mark.parametrize(
    "request_",
    [7, Atom("prepare"), (Atom("prepare"), []), (Atom("prepare"), [b"x"] * (MAX_TEMPLATES + 1)),
     (Atom("prepare"), [7]), (Atom("other"), [b"x"])],
)  # fmt: skip
def test_a_request_it_does_not_know(running: RunningWorker, request_: Any) -> None:
    ok, (kind, _) = running.prepare(request_)
    assert (ok, kind) == (False, "badarg")


def test_a_name_it_does_not_know(running: RunningWorker) -> None:
    answer = running.ask(Call(1, b"other", 7, 1000))
    assert decode(answer.replies[0].answer)[0] == "noproc"


def test_its_limits_are_set(running: RunningWorker) -> None:
    pid = running.process.pid
    assert resource.prlimit(pid, resource.RLIMIT_AS) == (MEMORY, MEMORY)
    assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)


def test_it_is_small(running: RunningWorker) -> None:
    assert resident_bytes(running.process.pid) < 32 * 1024 * 1024


def test_it_imports_only_what_formatting_needs() -> None:
    code = "import sys, bridge.fanout.worker; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert not {"aiohttp", "pydantic", "prometheus_client", "asyncio"} & set(done.stdout.split())


def test_it_ends_at_the_end_of_file(running: RunningWorker) -> None:
    assert running.end() == (0, "")


def test_what_is_no_message_ends_it_with_one_line(running: RunningWorker) -> None:
    running.link.sendall(frame(encode(Atom("secret"))))
    running.process.wait(30)
    status, errors = running.end()
    assert status == worker.ERROR_STATUS
    assert errors.startswith("worker: MessageError in ")
    assert errors.count("\n") == 1
    assert "secret" not in errors


def test_a_wrong_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-m", "bridge.fanout.worker", "x"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == worker.USAGE_STATUS
    assert done.stderr.startswith("usage: ")
