import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from bridge import logs
from bridge.config import Log
from erlang_port.logs import MAX_TEXT, PortLogHandler

Lines = list[tuple[str, str, str]]


@pytest.fixture
def lines(request: pytest.FixtureRequest) -> Iterator[Lines]:
    """What reaches the node of `a.module`'s logger, in the format that is the parameter."""
    found: Lines = []
    handler = PortLogHandler(lambda *line: found.append(line))
    handler.setFormatter(logs.formatter(Log(format=request.param)))
    logger = logging.getLogger("a.module")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


console = pytest.mark.parametrize("lines", ["console"], indirect=True)
as_json = pytest.mark.parametrize("lines", ["json"], indirect=True)

LOGGER = logs.get_logger("a.module")


@console
def test_an_event_and_its_fields(lines: Lines) -> None:
    LOGGER.info("a batch failed", broadcast="0mwu", batch=3, seconds=0.12345678, reason=None)
    LOGGER.warning(
        "odd", empty="", spaced="a b", quoted='"', assigned="a=b", lined="a\nb", user="Zoë"
    )
    LOGGER.debug("not passed on")
    assert lines == [
        ("info", "a.module", "a batch failed broadcast=0mwu batch=3 seconds=0.123457 reason=None"),
        (
            "warning",
            "a.module",
            r'odd empty="" spaced="a b" quoted="\"" assigned="a=b" lined="a\nb" user=Zoë',
        ),
    ]


@console
def test_fields_that_are_bound_come_first(lines: Lines) -> None:
    LOGGER.bind(broadcast="0mwu").info("a batch failed", batch=3)
    assert lines[0][2] == "a batch failed broadcast=0mwu batch=3"


def fail(logger: logging.Logger) -> None:
    try:
        raise ValueError("bad")
    except ValueError:
        logger.exception("%s failed", "it")


@console
def test_what_the_standard_library_logs_stays_as_it_is(lines: Lines) -> None:
    logger = logging.getLogger("a.module")
    logger.info("%d sessions: %s", 3, "a=b c", extra={"more": 1})
    fail(logger)
    plain: Lines = []
    handler = PortLogHandler(lambda *line: plain.append(line))
    logger.addHandler(handler)
    try:
        logger.info("%d sessions: %s", 3, "a=b c")
        fail(logger)
    finally:
        logger.removeHandler(handler)
    assert lines[:2] == lines[2:] == plain


@console
def test_an_exception_of_an_event_brings_its_traceback(lines: Lines) -> None:
    try:
        raise ValueError("bad")
    except ValueError:
        LOGGER.exception("failed", batch=1)
    ((level, _, text),) = lines
    assert level == "error"
    assert text.startswith("failed batch=1\nTraceback")
    assert text.endswith("ValueError: bad")


@as_json
def test_json_has_its_own_time_level_and_logger(lines: Lines) -> None:
    LOGGER.critical("gone", broadcast="0mwu", batch=3, name={"a": [1, None]})
    logging.getLogger("a.module").warning("%d users", 3)
    fail(logging.getLogger("a.module"))
    events = [json.loads(text) for _, _, text in lines]
    for event in events:
        assert abs(datetime.fromisoformat(event.pop("timestamp")) - datetime.now(UTC)).seconds < 60
        assert event.pop("logger") == "a.module"
    assert events[0] == {
        "event": "gone",
        "level": "critical",
        "broadcast": "0mwu",
        "batch": 3,
        "name": {"a": [1, None]},
    }
    assert events[1] == {"event": "3 users", "level": "warning"}
    assert events[2]["exception"].startswith("Traceback")
    assert events[2]["exception"].endswith("ValueError: bad")


@as_json
def test_json_is_one_line_of_ascii(lines: Lines) -> None:
    LOGGER.info("a\nb", user="Zoë\u2028", what=object)
    text = lines[0][2]
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text)["user"] == "Zoë\u2028"


@as_json
@pytest.mark.parametrize("letter", ["x", "\U0001f44b", '"'])
def test_json_that_is_too_long_is_json_all_the_same(lines: Lines, letter: str) -> None:
    LOGGER.info(
        "long", text=letter * 100_000 + "end", items=["y" * 9000], broadcast="0mwu", n=10**9
    )
    text = lines[0][2]
    assert len(text) <= MAX_TEXT
    event = json.loads(text)
    assert (event["event"], event["broadcast"], event["n"]) == ("long", "0mwu", 10**9)
    assert event["text"].startswith(letter)
    assert event["text"].endswith("end")


@as_json
def test_what_cannot_be_written_is_told_and_raises_nothing(lines: Lines) -> None:
    endless: list[object] = []
    endless.append(endless)
    LOGGER.info("endless", items=endless)
    assert "cannot be formatted" in lines[0][2]


IMPORTED = "import sys, {}; print(*[name for name in {} if name in sys.modules])"


@pytest.mark.parametrize(
    ("module", "without"),
    [
        # For a worker every megabyte counts as often as there are workers.
        ("bridge.fanout.worker", ["structlog", "asyncio"]),
        # What structlog imports where it can, and the port program has no use for.
        ("bridge.app", ["rich", "pygments"]),
    ],
)
def test_nobody_carries_what_is_not_used(module: str, without: list[str]) -> None:
    shown = subprocess.run(
        (sys.executable, "-I", "-c", IMPORTED.format(module, without)),
        check=True,
        capture_output=True,
        text=True,
    )
    assert shown.stdout.split() == []


def test_rich_can_be_imported_afterwards() -> None:
    subprocess.run((sys.executable, "-I", "-c", "import bridge.logs, rich.console"), check=True)


@pytest.fixture
def stream(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What is written of everything that is logged, in the format that is the parameter."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    written = io.StringIO()
    logs.write(written, Log(format=request.param))
    yield written
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("stream", ["console"], indirect=True)
def test_a_line_of_a_stream_has_its_time_and_level(stream: io.StringIO) -> None:
    LOGGER.warning("not connected", node="unix:/x y")
    logging.getLogger("other").debug("not written")
    line = stream.getvalue()
    begin, _, rest = line.partition(" ")
    assert rest == '[warning] a.module: not connected node="unix:/x y"\n'
    said = datetime.fromisoformat(begin)
    assert begin.endswith("Z")
    assert abs((datetime.now(UTC) - said).total_seconds()) < 60


@pytest.mark.parametrize("stream", ["json"], indirect=True)
def test_json_of_a_stream_is_a_document_a_line(stream: io.StringIO) -> None:
    LOGGER.info("connected", epoch=7)
    (line,) = stream.getvalue().splitlines()
    written = json.loads(line)
    assert written.items() >= {"event": "connected", "epoch": 7, "level": "info"}.items()
    assert written["logger"] == "a.module"
