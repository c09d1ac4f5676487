import asyncio
import errno
import os
import signal
import sys
from types import SimpleNamespace

import pytest

from erlang_port.otp import os_process, supervisor
from erlang_port.otp.gen import StartError
from erlang_port.otp.reasons import Exit
from erlang_port.otp.runtime import Runtime
from erlang_port.otp.supervisor import Backoff, Flags, Tree
from tests.bridge.waiting import until
from tests.erlang_port.otp.processes import as_process, exit_of
from tests.support.processes import alive

READY = "open(sys.argv[1], 'w').write(str(os.getpid()));"


def python(code, path):
    """A command that writes its pid to a file, then does something."""
    return [sys.executable, "-c", f"import os, signal, sys, time; {code}", str(path)]


async def pid_in(path):
    await until(lambda: path.exists() and path.read_text())
    pid = int(path.read_text())
    path.unlink()
    return pid


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["true"], "normal"),
        (["sh", "-c", "exit 7"], ("exit_status", 7)),
        (["sh", "-c", "kill -9 $$"], ("exit_status", 137)),
        (["/no/such/command"], ("exit_status", 127)),
    ],
)
@as_process
async def test_its_exit_status_is_its_exit_reason(command, reason):
    assert await exit_of(await os_process.start_link(command, "a")) == reason


@as_process
async def test_it_may_be_started_by_a_function():
    async def broken():
        raise FileNotFoundError("gone")

    async def works():
        return await asyncio.create_subprocess_exec("sh", "-c", "exit 3")

    assert await exit_of(await os_process.start_link(works, "a")) == ("exit_status", 3)
    with pytest.raises(StartError) as raised:
        await os_process.start_link(broken, "a")
    assert raised.value.reason[0][1] == b"FileNotFoundError"


@as_process
async def test_it_is_ended_by_sigterm(tmp_path):
    path = tmp_path / "pid"
    code = f"signal.signal(signal.SIGTERM, lambda *_: os._exit(3)); {READY} time.sleep(60)"
    process = await os_process.start_link(python(code, path), "a", 30.0)
    pid = await pid_in(path)
    process.exit("shutdown")
    assert await exit_of(process) == "shutdown"
    assert not alive(pid)


@pytest.mark.parametrize("shutdown", [0.05, "brutal_kill"])
@as_process
async def test_it_is_killed_when_it_does_not_end(tmp_path, shutdown):
    path = tmp_path / "pid"
    code = f"signal.signal(signal.SIGTERM, signal.SIG_IGN); {READY} time.sleep(60)"
    process = await os_process.start_link(python(code, path), "a", shutdown)
    pid = await pid_in(path)
    process.exit("shutdown")
    assert await exit_of(process) == "shutdown"
    assert not alive(pid)


@as_process
async def test_kill_kills_it_at_once(tmp_path):
    path = tmp_path / "pid"
    code = f"signal.signal(signal.SIGTERM, signal.SIG_IGN); {READY} time.sleep(60)"
    process = await os_process.start_link(python(code, path), "a", 60.0)
    pid = await pid_in(path)
    process.exit("kill")
    assert await exit_of(process) == "killed"
    await until(lambda: not alive(pid), timeout=5)
    await until(lambda: all(task.get_name() != "a" for task in asyncio.all_tasks()))


@as_process
async def test_it_is_started_again_however_often_it_ends_and_each_wait_is_longer(tmp_path):
    path = tmp_path / "pid"
    child = os_process.os_process(
        "a", python(f"{READY} time.sleep(60)", path), backoff=Backoff(0.01, 0.02, stable=60)
    )
    process = await supervisor.start_link(Tree("s", Flags(intensity=0), [child]))
    for _ in range(3):
        pid = await pid_in(path)
        os.kill(pid, signal.SIGKILL)
    pid = await pid_in(path)
    process.exit("shutdown")
    assert await exit_of(process) == "shutdown"
    assert not alive(pid)


def test_how_long_a_restart_waits():
    backoff = Backoff(first=0.5, longest=3.0)
    assert [backoff.delay(failures) for failures in (0, 1, 2, 3, 10_000)] == [0.5, 1, 2, 3, 3]


@as_process
async def test_who_waits_for_its_restart_can_be_stopped_or_started_by_hand():
    child = os_process.os_process("a", ["false"], backoff=Backoff(60, 60))
    process = await supervisor.start_link(Tree("s", Flags(), [child]))

    async def state():
        return (await supervisor.which_children(process))[0].child

    async with asyncio.timeout(5):
        while await state() != "restarting":  # noqa: ASYNC110 - told by nobody
            await asyncio.sleep(0.01)
    await supervisor.terminate_child(process, "a")
    assert await state() is None
    assert (await supervisor.restart_child(process, "a")) is not None
    process.exit("shutdown")
    assert await exit_of(process) == "shutdown"


class Sleeper:
    """A process with a body that ends as it is told."""

    def __init__(self, path):
        self.path = path
        self.told = asyncio.get_running_loop().create_future()
        self.cancelled = False

    async def body(self):
        try:
            await self.told
        except asyncio.CancelledError:
            # The process lives for as long as its body cleans up.
            self.cancelled = alive(int(self.path.read_text()))
            raise

    async def start(self, shutdown=60.0):
        command = python(f"{READY} time.sleep(60)", self.path)
        process = await os_process.start_link(command, "a", shutdown, body=self.body)
        await until(lambda: self.path.exists() and self.path.read_text())
        return process, int(self.path.read_text())


@as_process
async def test_when_its_body_has_returned_it_is_killed(tmp_path):
    sleeper = Sleeper(tmp_path / "pid")
    process, pid = await sleeper.start()
    sleeper.told.set_result(None)
    assert await exit_of(process) == ("exit_status", 137)
    assert not alive(pid)


@as_process
async def test_what_its_body_raises_is_the_reason(tmp_path):
    sleeper = Sleeper(tmp_path / "pid")
    process, pid = await sleeper.start()
    sleeper.told.set_exception(Exit(("shutdown", 1)))
    assert await exit_of(process) == ("shutdown", 1)
    assert not alive(pid)


@as_process
async def test_its_body_is_cancelled_before_it_is_ended(tmp_path):
    sleeper = Sleeper(tmp_path / "pid")
    process, pid = await sleeper.start()
    process.exit("shutdown")
    assert await exit_of(process) == "shutdown"
    assert sleeper.cancelled
    assert not alive(pid)


@as_process
async def test_a_body_that_sees_its_end_gives_its_exit_status():
    async def body():
        await asyncio.wait_for(ended.wait(), 5)

    ended = asyncio.Event()

    async def works():
        process = await asyncio.create_subprocess_exec("sh", "-c", "exit 7")
        waiting.append(asyncio.create_task(process.wait()))
        waiting[0].add_done_callback(lambda _: ended.set())
        return process

    waiting = []
    assert await exit_of(await os_process.start_link(works, "a", body=body)) == ("exit_status", 7)


@as_process
async def test_without_a_descriptor_to_spare_it_is_ended_all_the_same(tmp_path, monkeypatch):
    def no_more(_pid):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    # Here only: asyncio has one of its own, since Python 3.12.
    without = SimpleNamespace(**{**vars(os), "pidfd_open": no_more})
    monkeypatch.setattr(os_process, "os", without)
    sleeper = Sleeper(tmp_path / "pid")
    process, pid = await sleeper.start("brutal_kill")
    os.kill(pid, signal.SIGSTOP)
    process.exit("shutdown")
    assert await exit_of(process) == "shutdown"
    assert not alive(pid)


@as_process
async def test_a_start_that_is_given_up_leaves_no_process():
    spawned = asyncio.get_running_loop().create_future()

    async def slowly():
        process = await asyncio.create_subprocess_exec("sleep", "60")
        spawned.set_result(process.pid)
        await asyncio.sleep(0.05)
        return process

    starting = asyncio.create_task(os_process.start_link(slowly, "a"))
    pid = await spawned
    (process,) = (one for one in Runtime.here().processes.values() if one.label == "a")
    process.exit("kill")
    with pytest.raises(StartError):
        await starting
    await until(lambda: not alive(pid))
    await until(lambda: all(task.get_name() != "a" for task in asyncio.all_tasks()))
