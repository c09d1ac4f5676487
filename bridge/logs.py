"""Logging: an event and its fields, as text or as JSON, into the node's log.

Whatever is logged takes one way, structlog's records and the standard library's: `logging`'s root,
and the handler that sends each line over the port. The node adds time, level and source to a line;
JSON carries its own, for whoever takes it out of the log again.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import TYPE_CHECKING, Any, Final, TextIO

from erlang_port.logs import MAX_TEXT, PortLogHandler, cut, level_name

# structlog imports rich where there is one, 3 MB for tracebacks on a terminal, and there is none.
_hidden = "rich" not in sys.modules
if _hidden:
    sys.modules["rich"] = None  # type: ignore[assignment]  # an import of it fails
try:
    import structlog
finally:
    if _hidden:
        del sys.modules["rich"]

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

    from bridge.config import Log
    from erlang_port.logs import Sink

#: Characters of a field that are kept however long the others are.
_LEAST: Final = 64

structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    wrapper_class=structlog.stdlib.BoundLogger,
    logger_factory=structlog.stdlib.LoggerFactory(),
)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Give the logger of a name: its methods take an event, and fields by keyword.

    Fields are for what an operator looks for (`broadcast`, `batch`, `reason`); never a message's
    text.
    """
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def pass_on(sink: Sink, configuration: Log) -> None:
    """Have everything that is logged from now on sent to the node's log."""
    handler = PortLogHandler(sink)
    handler.setFormatter(formatter(configuration))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(configuration.level.upper())


def write(stream: TextIO, configuration: Log) -> None:
    """Have everything that is logged from now on written to a stream, with its time and level."""
    handler = logging.StreamHandler(stream)
    own = formatter(configuration)
    handler.setFormatter(own if configuration.format == "json" else _Dated(own))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(configuration.level.upper())


class _Dated(logging.Formatter):
    """Begins a line as the node begins those of the port program."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"
    converter = staticmethod(time.gmtime)

    def __init__(self, line: logging.Formatter) -> None:
        super().__init__()
        self._line = line

    def format(self, record: logging.LogRecord) -> str:
        begin = f"{self.formatTime(record)} [{level_name(record.levelno)}] {record.name}:"
        return f"{begin} {self._line.format(record)}"


def formatter(configuration: Log) -> logging.Formatter:
    """Give what makes a line of a record."""
    processors: list[Processor] = [structlog.processors.format_exc_info]
    if configuration.format == "json":
        processors += [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_origin,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _as_json,
        ]
    else:
        processors += [structlog.stdlib.ProcessorFormatter.remove_processors_meta, _as_text]
    return structlog.stdlib.ProcessorFormatter(processors=processors)


def _add_origin(_: object, __: str, fields: EventDict) -> EventDict:
    record: logging.LogRecord = fields["_record"]
    fields.update(level=level_name(record.levelno), logger=record.name)
    return fields


def _as_text(_: object, __: str, fields: EventDict) -> str:
    event, exception = fields.pop("event"), fields.pop("exception", None)
    line = " ".join([str(event), *(f"{name}={_value(value)}" for name, value in fields.items())])
    return line if exception is None else f"{line}\n{exception}"


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    # Quoted where it would not be one word.
    plain = text.isprintable() and text and not set(text) & {" ", '"', "="}
    return text if plain else json.dumps(text, ensure_ascii=False)


def _as_json(_: object, __: str, fields: EventDict) -> str:
    line = json.dumps(fields, default=str)
    limit = MAX_TEXT
    # A line that is cut is no JSON any more: what is long in it is cut instead.
    while len(line) > MAX_TEXT and limit > _LEAST:
        limit //= 2
        line = json.dumps({name: _shortened(value, limit) for name, value in fields.items()})
    return line


def _shortened(value: Any, limit: int) -> Any:  # noqa: ANN401  # whatever JSON can hold
    if value is None or isinstance(value, bool | int | float):
        return value
    return cut(str(value), limit)
