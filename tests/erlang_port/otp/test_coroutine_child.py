import asyncio

import pytest

from erlang_port.otp import coroutine_child, supervisor
from erlang_port.otp.coroutine_child import coroutine_child as child
from erlang_port.otp.gen import StartError
from erlang_port.otp.reasons import Exit
from erlang_port.otp.runtime import self as running
from erlang_port.otp.supervisor import Flags, Tree
from tests.erlang_port.otp.processes import as_process, exit_of, turns


async def for_ever(started):
    started()
    await asyncio.get_running_loop().create_future()


@as_process
async def test_it_is_started_once_it_says_so_and_ends_normally_with_its_work():
    events = []
    go, end = asyncio.Event(), asyncio.Event()

    async def run(started):
        events.append(running().label)
        await go.wait()
        started()
        await end.wait()

    starting = asyncio.create_task(coroutine_child.start_link(run, "a"))
    await turns()
    assert not starting.done()
    go.set()
    process = await starting
    assert events == ["a"]
    end.set()
    assert await exit_of(process) == "normal"


@as_process
async def test_what_it_raises_is_logged_and_its_reason(caplog):
    async def run(started):
        started()
        raise ZeroDivisionError("a bug")

    process = await coroutine_child.start_link(run, "a")
    ((kind, name, text), lines) = await exit_of(process)
    assert (kind, name, text) == ("python_error", b"ZeroDivisionError", b"a bug")
    assert b'raise ZeroDivisionError("a bug")' in lines[-1]
    assert "Traceback" in caplog.text


@as_process
async def test_its_starter_learns_of_an_end_right_after_its_start():
    async def run(started):
        # It comes before whoever waits for the start goes on.
        asyncio.get_running_loop().call_soon(running().exit, "kill")
        started()
        await for_ever(lambda: None)

    process = await coroutine_child.start_link(run, "a")
    assert not process.alive
    assert await exit_of(process) == "killed"
    assert not running().links


@as_process
async def test_an_exit_needs_no_traceback(caplog):
    async def run(started):
        started()
        raise Exit("crash")

    assert await exit_of(await coroutine_child.start_link(run, "a")) == "crash"
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(("error", "reason"), [(None, "normal"), (Exit("no port"), "no port")])
@as_process
async def test_it_may_end_before_it_has_started(error, reason):
    async def run(_):
        if error is not None:
            raise error

    with pytest.raises(StartError) as raised:
        await coroutine_child.start_link(run, "a")
    assert raised.value.reason == reason
    assert not running().mailbox


@as_process
async def test_it_cleans_up_before_its_process_ends():
    cleaned = asyncio.Event()

    async def run(started):
        try:
            await for_ever(started)
        finally:
            await cleaned.wait()

    process = await coroutine_child.start_link(run, "a")
    process.exit("shutdown")
    await turns()
    assert process.alive
    cleaned.set()
    assert await exit_of(process) == "shutdown"


@as_process
async def test_killed_it_is_cancelled_and_not_waited_for():
    cancelled = asyncio.Event()

    async def run(started):
        try:
            await for_ever(started)
        finally:
            cancelled.set()

    process = await coroutine_child.start_link(run, "a")
    process.exit("kill")
    assert await exit_of(process) == "killed"
    await cancelled.wait()


@as_process
async def test_whose_start_is_given_up_ends():
    cancelled = asyncio.Event()

    async def run(_):
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    starting = asyncio.create_task(coroutine_child.start_link(run, "a"))
    await turns()
    starting.cancel()
    await cancelled.wait()


@as_process
async def test_under_a_supervisor_it_is_restarted_and_stopped_in_time(caplog):
    ends, release = [], asyncio.Event()

    async def stubborn(started):
        started()
        try:
            await release.wait()
        except asyncio.CancelledError:
            ends.append("ignored")
            await release.wait()

    async def fails_once(started):
        started()
        if not ends:
            ends.append("failed")
            raise OSError("gone")
        await asyncio.get_running_loop().create_future()

    children = [child("stubborn", stubborn, shutdown=0.02), child("fails", fails_once)]
    process = await supervisor.start_link(Tree("s", Flags(), children))
    await turns()
    assert await supervisor.count_children(process) == (2, 2, 0, 2)
    assert ends == ["failed"]
    assert "OSError: gone" in caplog.text
    process.exit("shutdown")
    assert await exit_of(process) == "shutdown"
    assert ends == ["failed", "ignored"]
    release.set()
    await turns()
