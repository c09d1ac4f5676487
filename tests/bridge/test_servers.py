import asyncio
import logging
import sys
from pathlib import Path

import pytest

from bridge import servers
from bridge.config import Server
from erlang_port.otp import gen_server, supervisor
from erlang_port.otp.gen_server import StartError
from erlang_port.otp.runtime import Runtime

SOURCE = """
from erlang_port.otp.gen_server import GenServer, Ok, Reply

class Echo(GenServer):
    def init(self, args):
        return Ok(args)
    def handle_call(self, message, from_, state):
        return Reply((message, state), state)

class Other:
    pass
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "servers_of_a_test.py").write_text(SOURCE)
    yield tmp_path
    sys.modules.pop("servers_of_a_test", None)
    servers._class.cache_clear()


def server(name: str, **options: object) -> Server:
    return Server(start=f"servers_of_a_test:{name}", **options)


async def test_each_has_its_name_and_its_arguments(directory: Path) -> None:
    configured = {"one": server("Echo", args={"a": 1}), "two": server("Echo", scope="global")}
    tree = await servers.start_link(configured, [directory])
    assert tree is not None
    assert await gen_server.call("one", 5) == (5, {"a": 1})
    assert await gen_server.call(("global", "two"), 6) == (6, None)
    assert Runtime.here().whereis("two") is None


async def test_one_that_cannot_start_is_waited_for_and_keeps_nobody_else_from_it(
    directory: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "BACKOFF", supervisor.Backoff(first=0.01, longest=0.02))
    configured = {"bad": server("Missing"), "good": server("Echo")}
    with caplog.at_level(logging.ERROR):
        tree = await servers.start_link(configured, [directory])
    assert tree is not None
    assert "servers_of_a_test:Missing" in caplog.text
    assert await gen_server.call("good", 1) == (1, None)
    # It is tried again until it is there.
    monkeypatch.setattr(
        sys.modules["servers_of_a_test"],
        "Missing",
        sys.modules["servers_of_a_test"].Echo,
        raising=False,
    )
    async with asyncio.timeout(5):
        while Runtime.here().whereis("bad") is None:  # noqa: ASYNC110 - a supervisor's doing
            await asyncio.sleep(0.01)
    assert await gen_server.call("bad", 2) == (2, None)


@pytest.mark.parametrize(
    ("start", "text"),
    [
        ("no_such_module_4711:Echo", "No module named 'no_such_module_4711'"),
        ("servers_of_a_test:Nobody", "has no attribute 'Nobody'"),
        ("servers_of_a_test:Other", "is no GenServer"),
    ],
)
async def test_what_is_no_gen_server_is_told(directory: Path, start: str, text: str) -> None:
    servers._find_modules_in([directory])
    with pytest.raises(StartError, match=text):
        await servers.start_server("name", Server(start=start))


async def test_modules_of_ours_come_first(directory: Path) -> None:
    (directory / "json.py").write_text("raise RuntimeError")
    servers._find_modules_in([directory])
    assert sys.path[-1] == str(directory)
