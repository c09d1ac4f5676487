import asyncio
import os
import secrets
import socket

import pytest

from bridge.sidecar import notify
from tests.bridge.sidecar.notified import heard


@pytest.fixture(params=["file", "abstract"])
def systemd(request, tmp_path, monkeypatch):
    """The socket that systemd listens at, and its name in the environment."""
    name = str(tmp_path / "notify") if request.param == "file" else f"@{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0") if name.startswith("@") else name)
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield listener


@pytest.fixture(autouse=True)
def no_watchdog(monkeypatch):
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)


@pytest.fixture
def new():
    """Makes notifiers; a program has one, and its socket for as long as it lives."""
    made = []

    def make():
        made.append(notify.Notifier())
        return made[-1]

    yield make
    for one in made:
        if one._socket is not None:
            one._socket.close()


async def run(notifier):
    started = asyncio.Event()
    task = asyncio.create_task(notifier.run(started.set))
    await asyncio.wait_for(started.wait(), 5)
    return task


async def stop(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_ready_and_stopping(systemd, new):
    notifier = new()
    notifier.status("connecting")
    task = await run(notifier)
    notifier.status("connected to ejabberd@here, epoch 7 ☎")
    await stop(task)
    said = heard(systemd)
    assert [word for word in said if word != "WATCHDOG=1"] == [
        "STATUS=connecting",
        "READY=1",
        "STATUS=connected to ejabberd@here, epoch 7 ☎",
        "STOPPING=1",
    ]


async def test_the_watchdog_is_fed_twice_as_often_as_it_bites(systemd, monkeypatch, new):
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    task = await run(new())
    loop = asyncio.get_running_loop()
    begun, fed = loop.time(), 0
    while fed < 4:
        await asyncio.sleep(0.005)
        fed += heard(systemd).count("WATCHDOG=1")
        assert loop.time() - begun < 5
    # At once, and after each twentieth of a second.
    assert loop.time() - begun >= 0.145
    await stop(task)


@pytest.mark.parametrize("microseconds", ["0", "", "soon", "-5"])
async def test_a_watchdog_that_is_none(systemd, monkeypatch, microseconds, new):
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    assert new()._interval == 3600
    monkeypatch.setenv("WATCHDOG_USEC", "1000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert new()._interval == 3600
    assert heard(systemd) == []


async def test_workers_speak_for_nobody(systemd, monkeypatch, new):
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    new()
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & os.environ.keys()
    assert heard(systemd) == []


async def test_a_status_is_one_line(systemd, new):
    notifier = new()
    notifier.status("not connected: \n READY=1\nMAINPID=1 \udcff")
    assert heard(systemd) == ["STATUS=not connected: READY=1 MAINPID=1 ?"]


async def test_without_systemd_and_with_one_that_is_gone(tmp_path, monkeypatch, new):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    for name in (None, "", str(tmp_path / "none"), "vsock:2:1234", "@" + "x" * 200):
        if name is not None:
            monkeypatch.setenv("NOTIFY_SOCKET", name)
        notifier = new()
        notifier.status("of interest to nobody")
        await stop(await run(notifier))


async def test_a_systemd_that_does_not_read_is_not_waited_for(systemd, new):
    notifier = new()
    for n in range(2000):
        notifier.status(f"{n} " + "x" * 100)
    assert 0 < len(heard(systemd)) < 2000
