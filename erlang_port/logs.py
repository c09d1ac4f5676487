"""Python's logging, sent to the node's log."""

import logging
from collections.abc import Callable

from erlang_port.messages import Level

#: How a line gets to the node: level, source, text. Called from any thread.
Sink = Callable[[Level, str, str], None]

#: Characters of one record that are sent, its traceback included.
MAX_TEXT = 4096


def level_name(number: int) -> Level:
    """The wire's level of a level of Python's logging."""
    if number >= logging.CRITICAL:
        return "critical"
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warning"
    if number >= logging.INFO:
        return "info"
    return "debug"


class PortLogHandler(logging.Handler):
    """Sends each record to the node with its level and its logger's name.

    The sink drops a line rather than wait, so that no thread is held up by its logging.
    """

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        try:
            text = self.format(record)
        except Exception as error:  # noqa: BLE001  # arguments of any type: whoever logs never fails
            where = f"{record.pathname}:{record.lineno}"
            text = f"a log record of {where} cannot be formatted: {type(error).__name__}"
        self._sink(level_name(record.levelno), record.name, cut(text))


def cut(text: str, limit: int = MAX_TEXT) -> str:
    """Cut a text that has more characters than the limit, 64 at least.

    In the middle: a traceback begins with the message and ends with the exception.
    """
    if len(text) <= limit:
        return text
    head, tail = limit // 4, limit // 2
    return f"{text[:head]}\n[{len(text) - head - tail} characters]\n{text[-tail:]}"
