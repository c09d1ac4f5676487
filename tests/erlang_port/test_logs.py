import logging

import pytest

from erlang_port.logs import MAX_TEXT, PortLogHandler, level_name


@pytest.fixture
def log():
    lines = []
    logger = logging.getLogger("a.module")
    handler = PortLogHandler(lambda *line: lines.append(line))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield logger, lines
    logger.removeHandler(handler)


def test_level_and_logger_travel_with_the_text(log):
    logger, lines = log
    logger.info("%d sessions", 3)
    logger.error("no room")
    assert lines == [("info", "a.module", "3 sessions"), ("error", "a.module", "no room")]


def test_an_exception_brings_its_traceback(log):
    logger, lines = log
    try:
        raise ValueError("bad")
    except ValueError:
        logger.exception("failed")
    ((level, _, text),) = lines
    assert level == "error"
    assert text.startswith("failed\nTraceback")
    assert text.endswith("ValueError: bad")


def test_a_long_record_is_cut(log):
    logger, lines = log
    logger.warning("x" * 100_000)
    assert MAX_TEXT // 2 < len(lines[0][2]) <= MAX_TEXT


def test_a_long_traceback_keeps_its_message_and_its_exception(log):
    logger, lines = log

    try:
        raise ValueError("x" * 20_000 + "the end")
    except ValueError:
        logger.exception("the beginning")
    text = lines[0][2]
    assert len(text) <= MAX_TEXT
    assert text.startswith("the beginning\nTraceback")
    assert text.endswith("the end")


class Unshowable:
    def __str__(self):
        raise OSError("gone")


@pytest.mark.parametrize(
    ("text", "arguments", "error"),
    [
        ("%d users", ("many",), "TypeError"),
        ("%(users)s", ({"rooms": 1},), "KeyError"),
        ("%s", (Unshowable(),), "OSError"),
    ],
)
def test_a_record_that_cannot_be_formatted_is_said_to_be_so(
    log, monkeypatch, text, arguments, error
):
    logger, lines = log
    # pytest's own handler would raise.
    monkeypatch.setattr(logger, "propagate", False)
    logger.info(text, *arguments)
    ((_, _, line),) = lines
    assert "cannot be formatted" in line
    assert line.endswith(error)


@pytest.mark.parametrize(
    ("number", "name"),
    [(10, "debug"), (15, "debug"), (20, "info"), (30, "warning"), (40, "error"), (60, "critical")],
)
def test_levels(number, name):
    assert level_name(number) == name
