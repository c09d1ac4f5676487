import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from bridge import port_program
from bridge.version import __version__
from erlang_port.etf import Atom
from tests.bridge.fanout.conftest import a_batch, texts
from tests.bridge.node_stub import NodeStub
from tests.bridge.waiting import until
from tests.support.processes import alive, descendants, resident_bytes

RUN = "from bridge import port_program; sys.exit(port_program.main([]))"
BROKEN = f"""
import sys
from bridge.http.server import HttpServer
async def run(self, started):
    started()
    raise ZeroDivisionError("a bug")
HttpServer.run = run
{RUN}
"""

NOT_IMPORTABLE = f"""
import sys
class Finder:
    def find_spec(name, *rest):
        if name == "aiohttp":
            print("printed first")
            raise ImportError
sys.meta_path.insert(0, Finder)
{RUN}
"""

StartNode = Callable[..., Awaitable[NodeStub]]


@pytest.fixture
async def start_node() -> AsyncIterator[StartNode]:
    nodes: list[NodeStub] = []

    async def start(*, greet: bool = True, **options: Any) -> NodeStub:
        node = NodeStub()
        await node.start(**{"MEGAPHONE_WORKERS__COUNT": "1"} | options)
        nodes.append(node)
        if greet:
            await node.greet()
        return node

    yield start
    for node in nodes:
        await node.end()


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-u", "-m", "bridge.port_program", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal (proc(5), SigCgt)."""
    status = Path(f"/proc/{pid}/status").read_text()
    (caught,) = re.findall(r"^SigCgt:\s*(\w+)$", status, re.MULTILINE)
    return bool(int(caught, 16) >> (number - 1) & 1)


def print_10_mb(path: Path) -> None:
    with path.open("wb", buffering=0) as stdout:
        for _ in range(160):
            stdout.write((b"x" * 1023 + b"\n") * 64)


def test_check_says_ok() -> None:
    done = run("--check")
    assert done.returncode == port_program.STOPPED
    assert re.fullmatch(rf"OK: megaphone {__version__}, Python 3\.\S+, \S+\n", done.stdout)
    assert done.stderr == ""


def test_check_says_what_is_wrong_with_the_configuration() -> None:
    done = run("--check", MEGAPHONE_HTTP__PORT="x")
    assert done.returncode == port_program.UNUSABLE
    assert done.stdout.startswith("configuration: environment variable MEGAPHONE_HTTP__PORT: ")
    assert done.stdout.count("\n") == 1


def test_wrong_command_lines() -> None:
    assert run("--nonsense").returncode == port_program.USAGE
    done = run()
    assert done.returncode == port_program.USAGE
    assert "descriptors 3 and 4" in done.stderr


def test_every_exit_status_is_documented() -> None:
    assert port_program.__doc__ is not None
    documented = re.findall(r"^    (\d)   ", port_program.__doc__, re.MULTILINE)
    assert list(map(int, documented)) == [
        port_program.STOPPED,
        port_program.UNUSABLE,
        port_program.USAGE,
        port_program.DISCONNECTED,
        port_program.FAILED,
    ]


def test_only_the_standard_library_comes_before_the_port_is_claimed() -> None:
    code = (
        "import sys; before = set(sys.modules); import bridge.port_program;"
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    imported = {name.split(".")[0] for name in done.stdout.split()}
    assert imported - {"bridge", "erlang_port"} <= sys.stdlib_module_names
    assert "asyncio" not in imported


async def test_it_answers_for_itself(start_node: StartNode) -> None:
    node = await start_node()
    assert node.hello is not None
    assert node.hello[b"name"] == b"port_program"
    assert node.hello[b"os_pid"] == node.process.pid
    status = await node.own_status()
    assert status[b"version"] == __version__.encode()
    assert status[b"pid"] == node.process.pid
    assert len(status[b"workers"]) == 1
    assert await node.call(b"nobody", Atom("status")) == (False, ("noproc", b"no nobody here"))
    ok, (kind, _) = await node.call(b"bridge", 7)
    assert (ok, kind) == (False, "badarg")
    ok, (kind, _) = await node.call(b"fanout", (Atom("prepare"), []))
    assert (ok, kind) == (False, "badarg")
    await until(lambda: any("node=stub@localhost" in text for *_, text in node.logs))


async def test_its_tree_counts_restarts(start_node: StartNode) -> None:
    node = await start_node()
    worker = await node.worker()
    os.kill(worker, signal.SIGKILL)
    async with asyncio.timeout(20):
        while await node.worker() == worker:  # noqa: ASYNC110 - polled over the port
            await asyncio.sleep(0.01)
    tree = (await node.own_status())[b"tree"]
    assert (tree[b"id"], tree[b"type"], tree[b"state"]) == (b"megaphone", b"supervisor", b"running")
    parts = {part[b"id"]: part for part in tree[b"children"]}
    assert list(parts) == [b"port", b"workers", b"headroom", b"http"]
    assert all(part[b"uptime_seconds"] > 0 for part in parts.values())
    (process,) = parts[b"workers"][b"children"]
    assert (process[b"id"], process[b"type"], process[b"restarts"]) == (
        *(b"worker-0", b"os_process", 1),
    )
    assert process[b"os_pid"] == await node.worker()
    assert process[b"uptime_seconds"] < parts[b"workers"][b"uptime_seconds"]


async def test_a_batch_from_its_check_to_its_texts(start_node: StartNode) -> None:
    node = await start_node()
    assert await node.call(b"fanout", (Atom("prepare"), [b"Hello {{ user }}"])) == (
        True,
        ("ok", {b"columns": [b"user"]}),
    )
    for n in range(50):
        node.send(a_batch("b", n, "Hello {{ user }}"))
    await until(lambda: len(node.answers) == 50)
    assert sorted(answer.n for answer in node.answers) == list(range(50))
    assert {tuple(texts(answer)) for answer in node.answers} == {(b"Hello romeo", b"Hello juliet")}


async def test_a_killed_worker_loses_and_repeats_nothing(start_node: StartNode) -> None:
    node = await start_node()
    worker = await node.worker()
    os.kill(worker, signal.SIGSTOP)
    for n in range(20):
        node.send(a_batch("b", n, "{{ user }}"))
    await node.workers_are(b"busy")
    os.kill(worker, signal.SIGKILL)
    await until(lambda: len(node.answers) >= 20)
    assert sorted(answer.n for answer in node.answers) == list(range(20))
    assert await node.worker() != worker


async def test_what_a_worker_prints_is_bounded_and_holds_nobody_up(
    start_node: StartNode,
) -> None:
    node = await start_node()
    worker = await node.worker()
    # What the worker's own descriptor 1 is: 10 MB into it, as a C library in it could print.
    await asyncio.to_thread(print_10_mb, Path(f"/proc/{worker}/fd/1"))
    node.send(a_batch("b", 0, "{{ user }}"))
    await until(lambda: len(node.answers) == 1)
    await until(lambda: any("were dropped: too much output" in text for *_, text in node.logs))
    printed = sum(len(text) for _, source, text in node.logs if source == "stdout")
    assert 0 < printed < 2_000_000
    assert await node.worker() == worker


async def test_the_end_of_the_port_is_the_end_of_everything(start_node: StartNode) -> None:
    node = await start_node()
    worker = await node.worker()
    node.hang_up()
    assert await asyncio.wait_for(node.process.wait(), 10) == port_program.DISCONNECTED
    assert not alive(worker)


async def test_sigterm_ends_it_and_its_workers(start_node: StartNode) -> None:
    node = await start_node()
    worker = await node.worker()
    node.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(node.process.wait(), 10) == port_program.STOPPED
    assert not alive(worker)


async def test_sigterm_ends_it_before_the_node_has_said_hello(start_node: StartNode) -> None:
    node = await start_node(greet=False, stderr=subprocess.PIPE)
    await until(lambda: catches(node.process.pid, signal.SIGTERM))
    node.process.send_signal(signal.SIGTERM)
    assert node.process.stderr is not None
    assert await node.process.stderr.read() == b""
    assert await asyncio.wait_for(node.process.wait(), 10) == port_program.STOPPED


async def test_kill_9_leaves_no_worker_a_stopped_one_included(start_node: StartNode) -> None:
    node = await start_node(MEGAPHONE_WORKERS__COUNT="2")
    await until(lambda: len(descendants(node.process.pid)) == 2)
    await node.workers_are(b"idle")
    workers = descendants(node.process.pid)
    os.kill(workers[0], signal.SIGSTOP)
    node.process.kill()
    await until(lambda: not any(map(alive, workers)), timeout=2)


async def test_a_node_of_another_protocol_ends_it(start_node: StartNode) -> None:
    node = await start_node(greet=False)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await node.greet(protocol=[99])
    assert await asyncio.wait_for(node.process.wait(), 15) == port_program.DISCONNECTED


async def test_garbage_on_the_port_ends_it(start_node: StartNode) -> None:
    node = await start_node()
    node.write(b"\xff" * 12)
    assert await asyncio.wait_for(node.process.wait(), 10) == port_program.DISCONNECTED


async def test_a_bad_configuration_ends_it(start_node: StartNode) -> None:
    node = await start_node(greet=False, MEGAPHONE_WORKERS__COUNT="none")
    assert await asyncio.wait_for(node.process.wait(), 15) == port_program.UNUSABLE


async def test_the_last_words_reach_the_node(start_node: StartNode) -> None:
    node = await start_node()
    worker = await node.worker()
    # Without a newline: whether it is a whole line is not known before the end.
    for pid in (worker, node.process.pid):
        Path(f"/proc/{pid}/fd/2").write_bytes(f"last words of {pid}, ".encode())
    node.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(node.process.wait(), 10) == port_program.STOPPED
    await until(lambda: node.closed)
    said = "".join(text for _, source, text in node.logs if source == "stderr")
    assert f"last words of {worker}, last words of {node.process.pid}, " in said


async def test_what_ends_the_program_reaches_the_node_before_the_port_is_closed(
    start_node: StartNode,
) -> None:
    node = await start_node(program=("-c", BROKEN), stderr=subprocess.PIPE)
    assert node.process.stderr is not None
    told = await node.process.stderr.read()
    assert await asyncio.wait_for(node.process.wait(), 10) == port_program.FAILED
    await until(lambda: node.closed)
    errors = [text for level, _, text in node.logs if level in ("error", "critical")]
    assert any("Traceback" in text and "ZeroDivisionError: a bug" in text for text in errors)
    assert "more than 3 restarts in 60 s" in errors[-1]
    # Where nobody takes log lines any more.
    assert b"more than 3 restarts in 60 s" in told


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"MEGAPHONE_WORKERS__COUNT": "none"}, b"MEGAPHONE_WORKERS__COUNT"),
        ({"program": ("-c", NOT_IMPORTABLE)}, b"printed first\nTraceback"),
    ],
)
async def test_what_ends_it_before_the_hello_is_told_where_it_was_started(
    start_node: StartNode, options: dict[str, Any], said: bytes
) -> None:
    node = await start_node(greet=False, stderr=subprocess.PIPE, **options)
    assert node.process.stderr is not None
    async with asyncio.timeout(15):
        told = await node.process.stderr.read()
        assert await node.process.wait() == port_program.UNUSABLE
    assert said in told


async def test_memory_of_all_together_is_flat_over_ten_broadcasts(start_node: StartNode) -> None:
    node = await start_node()
    worker = await node.worker()
    users = [f"user{n}" for n in range(1000)]
    sizes = []
    for broadcast in range(10):
        done = 50 * (broadcast + 1)
        for n in range(50):
            node.send(a_batch(f"b{broadcast}", n, "{% if true %}{{ user }}{% endif %}", users))
        await until(lambda done=done: len(node.answers) == done)
        sizes.append(resident_bytes(node.process.pid) + resident_bytes(worker))
    assert max(sizes) < 150 * 1024 * 1024
    assert sizes[-1] < sizes[2] * 1.05
