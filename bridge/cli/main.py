"""`megaphone`: puts the commands together and turns failures into one line and an exit status."""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, Final

import typer
from typer.exceptions import TyperException

from bridge.cli import (
    attach,
    broadcast,
    capacity,
    dashboard,
    demo,
    detach,
    node,
    sidecar,
    status,
)
from bridge.cli.errors import CommandError, ExitStatus
from bridge.version import __version__

#: The commands, for the advice after a wrong command line.
_COMMANDS: Final = frozenset(
    {
        "attach",
        "detach",
        "status",
        "capacity",
        "broadcast",
        "sidecar",
        "ready",
        "demo",
        "dashboard",
        "node",
    }
)

app = typer.Typer(
    name="megaphone",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"megaphone {__version__}")
        raise typer.Exit


@app.callback()
def _megaphone(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """A Python sidecar for ejabberd: attach it to a running node, broadcast, take it off again."""


for _command in (attach, detach, status, capacity, broadcast, sidecar, demo, dashboard, node):
    _command.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command line and exits with its status (bridge.cli.errors.ExitStatus).

    Args:
        arguments: The words after `megaphone`; those of the process when None.

    Raises:
        SystemExit: Always.
    """
    words = [_from_utf8(word) for word in sys.argv[1:]] if arguments is None else list(arguments)
    _use_utf8()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminate)
    sys.exit(_run(words))


def _run(words: list[str]) -> int:
    try:
        returned = app(words, prog_name="megaphone", standalone_mode=False)
        _flush()
    except CommandError as error:
        return _report(error, words)
    except TyperException as error:
        if not error.format_message():
            return ExitStatus.USAGE  # No command at all: typer has printed the help.
        remedy = f"see: megaphone {_advised(words)}--help"
        return _report(
            CommandError(error.format_message().rstrip("."), remedy, ExitStatus.USAGE), words
        )
    except typer.Abort:
        return _report(CommandError("interrupted", "", ExitStatus.INTERRUPTED), words)
    except BrokenPipeError:
        # Who read our output has gone; what is left in the buffer must not raise at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())
        return ExitStatus.FAILURE
    except Exception as error:  # noqa: BLE001 - the last one: a bug becomes a line, not a traceback
        detail = " ".join(str(error).split())
        what = f"internal error: {type(error).__name__}: {detail}"
        return _report(CommandError(what, "MEGAPHONE_DEBUG=1 shows where"), words)
    return returned if isinstance(returned, int) else ExitStatus.OK


def _report(error: CommandError, words: list[str]) -> int:
    if os.environ.get("MEGAPHONE_DEBUG") == "1":
        traceback.print_exc()
    if _wants_json(words):
        document = {"what": error.what, "remedy": error.remedy, "status": int(error.status)}
        sys.stdout.write(json.dumps({"error": document}, ensure_ascii=False) + "\n")
    sys.stderr.write(f"megaphone: {error}\n")
    return error.status


def _wants_json(words: list[str]) -> bool:
    return "--json" in itertools.takewhile(lambda word: word != "--", words)


def _advised(words: list[str]) -> str:
    known = [word for word in words[:2] if word in _COMMANDS]
    return f"{known[0]} " if known else ""


def _from_utf8(word: str) -> str:
    """An argument as UTF-8, whatever Python took it for; bytes that are none stay as they came."""
    try:
        return os.fsencode(word).decode("utf-8")
    except UnicodeDecodeError:
        return word


def _use_utf8() -> None:
    """Output is UTF-8 whatever the locale; what no encoding holds is escaped, never an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _terminate(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM, and the end of the terminal, unwind like Ctrl-C.

    So what a command started is ended by its own `finally`.
    """
    raise SystemExit(ExitStatus.TERMINATED)


if __name__ == "__main__":
    main()
