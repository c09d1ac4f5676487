"""A worker process: `python -I -u -m bridge.fanout.worker FD MEMORY_LIMIT`.

Blocking, one message at a time, and it imports only what formatting needs. Exit statuses: 0 at end
of file, 2 for a wrong command line, 70 for an error of its own, which it tells in one line.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING, Final

from bridge.fanout.batch import BatchError, format_batch
from bridge.fanout.limits import MAX_TEMPLATES
from bridge.fanout.prepare import check
from bridge.fanout.text import TemplateError, TextTooLargeError
from bridge.version import __version__
from erlang_port import startup
from erlang_port.etf import Atom, EtfError, decode, encode
from erlang_port.frames import MAX_FRAME
from erlang_port.links import WorkerLink
from erlang_port.messages import (
    VERSIONS,
    Batch,
    BatchFailed,
    Call,
    Hello,
    Replies,
    Reply,
    batch_done,
    error_answer,
)

if TYPE_CHECKING:
    from erlang_port.etf import Term
    from erlang_port.messages import BatchFailure, Message

#: Bytes of a frame kept for what is not text: the envelope, and the list of dropped recipients.
_ENVELOPE: Final = 4096

#: Bytes that the texts of one batch may have.
MAX_TEXTS: Final = MAX_FRAME - _ENVELOPE

USAGE_STATUS: Final = 2
ERROR_STATUS: Final = 70


class Worker:
    """Reads messages, answers each, until end of file."""

    def __init__(self, link: WorkerLink) -> None:
        self._link = link

    def run(self) -> None:
        """Say hello, then work."""
        hello = {
            b"protocol": list(VERSIONS),
            b"version": __version__.encode(),
            b"name": b"worker",
            b"os_pid": os.getpid(),
            b"max_frame": MAX_FRAME,
        }
        self._link.send(Hello(hello))
        while (message := self._link.receive()) is not None:
            match message:
                case Batch():
                    self._link.send(answer_batch(message))
                case Call():
                    self._link.send(Replies([answer_call(message)]))
                case _:
                    raise ValueError("a message that no worker gets")


def answer_batch(batch: Batch) -> Message:
    """Format a batch; whatever it holds, there is an answer for it."""
    try:
        texts, dropped = format_batch(decode(batch.body), MAX_TEXTS)
        body = encode((texts, [(index, Atom(reason)) for index, reason in dropped]))
        done = batch_done(batch.broadcast, batch.n, body)
        if len(done.payload) <= MAX_FRAME:
            return done
        return _failed(batch, "too_large", "the texts and what was dropped do not fit in a frame")
    except TextTooLargeError:
        return _failed(batch, "too_large", f"the texts have more than {MAX_TEXTS} bytes")
    except MemoryError:
        return _failed(batch, "memory", "the template wants more memory than a worker may have")
    except BatchError as error:
        return _failed(batch, "bad_batch", str(error))
    except EtfError as error:
        return _failed(batch, "bad_batch", f"the body is no term: {error}")


def _failed(batch: Batch, reason: BatchFailure, text: str) -> BatchFailed:
    return BatchFailed(batch.broadcast, batch.n, reason, text.encode())


def answer_call(call: Call) -> Reply:
    """Answer a call; a worker knows `template` only."""
    if call.name != b"template":
        return Reply(call.id, False, error_answer("noproc", "a worker knows template only"))
    match call.request:
        case ("prepare", list(sources)) if 0 < len(sources) <= MAX_TEMPLATES and all(
            type(source) is bytes for source in sources
        ):
            return Reply(call.id, True, encode(_prepare(sources)))
    return Reply(call.id, False, error_answer("badarg", "the request is {prepare, Templates}"))


def _prepare(sources: list[bytes]) -> Term:
    columns: set[str] = set()
    for index, source in enumerate(sources):
        try:
            columns.update(check(source, MAX_TEXTS).columns)
        except TemplateError as error:
            return Atom("invalid"), index, str(error)
        except MemoryError:
            return Atom("invalid"), index, "it wants more memory than a worker may have"
    return Atom("ok"), {b"columns": [name.encode() for name in sorted(columns)]}


def limit(memory: int) -> None:
    """Bound this process: address space in bytes, and no core file, which would hold texts."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(arguments: list[str]) -> int:
    """Run a worker on a descriptor; the exit status."""
    startup.die_with_parent()
    # Ctrl-C at a terminal reaches the whole group; the port program ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        descriptor, memory = map(int, arguments)
    except ValueError:
        sys.stderr.write("usage: python -m bridge.fanout.worker FD MEMORY_LIMIT\n")
        return USAGE_STATUS
    gc.freeze()
    limit(memory)
    try:
        os.set_inheritable(descriptor, False)
        Worker(WorkerLink(descriptor)).run()
    except (BrokenPipeError, ConnectionResetError):
        return 0
    except Exception as error:  # noqa: BLE001 - its text may hold a recipient's, its place does not
        sys.stderr.write(f"worker: {type(error).__name__} {_place(error)}\n")
        return ERROR_STATUS
    return 0


def _place(error: BaseException) -> str:
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return "somewhere"
    return f"in {traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
