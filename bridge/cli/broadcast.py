"""`megaphone broadcast`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bridge.attach.ejabberdctl import ARGUMENT_LIMIT
from bridge.cli import watching
from bridge.cli.control import Commands, reach
from bridge.cli.errors import CommandError, ExitStatus
from bridge.cli.options import EjabberdctlOption, JsonOption
from bridge.cli.status import broadcast_table


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("broadcast")(broadcast)


def broadcast(
    text: Annotated[
        str | None,
        typer.Argument(
            help="The text, a Jinja template: 'Hello {{ user }}'; - reads it from stdin."
        ),
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", help="A file with the text, UTF-8; - for stdin.")
    ] = None,
    subject: Annotated[str | None, typer.Option(help="The subject, a template too.")] = None,
    to: Annotated[
        str, typer.Option(help="The audience: online, or online@HOST for one virtual host.")
    ] = "online",
    message_type: Annotated[
        str | None, typer.Option("--type", help="headline (the default), normal or chat.")
    ] = None,
    sender: Annotated[
        str | None, typer.Option("--from", help="The JID it comes from; the host when absent.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show the progress until it has ended.")
    ] = False,
    ejabberdctl: EjabberdctlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a message to everybody online, each with a text of its own.

    Exit status 10 when the node refuses it (the message names the field), 1 when it fails later
    (seen with --watch).
    """
    request = {
        "template": _body(text, file),
        "to": to,
        "subject": subject,
        "type": message_type,
        "from": sender,
    }
    ctl = reach(ejabberdctl)
    accepted = submit(ctl, {name: value for name, value in request.items() if value is not None})
    identity = str(accepted.get("id", ""))
    if not watch:
        typer.echo(json.dumps(accepted) if as_json else f"accepted: broadcast {identity}")
        return
    ended = watching.follow(ctl, identity, Console(stderr=True, highlight=False, quiet=as_json))
    if as_json:
        typer.echo(json.dumps(ended))
    else:
        Console(highlight=False, markup=False).print(broadcast_table([ended]))
    if ended.get("state") == "failed":
        raise CommandError(
            f"the broadcast {identity} failed: {ended.get('error') or 'no reason is known'}",
            "the table says how many had it sent; mend the reason before you send it again",
            ExitStatus.FAILURE,
        )


def submit(ctl: Commands, request: dict[str, Any]) -> dict[str, Any]:
    """Hands a broadcast to the node.

    The request goes as JSON in pure ASCII, so that no locale on the way can change it.

    Raises:
        CommandError: REFUSED, with the field, when the node does not take it; USAGE when it is not
            UTF-8 or too long for one argument; as `Commands.json`.
    """
    for name, value in request.items():
        try:
            str(value).encode()
        except UnicodeEncodeError as error:
            raise CommandError(
                f"{name} is not UTF-8", "convert it, or set LC_ALL=C.UTF-8", ExitStatus.USAGE
            ) from error
    encoded = json.dumps(request, ensure_ascii=True, separators=(",", ":"))
    if len(encoded) > ARGUMENT_LIMIT:
        raise CommandError(
            f"the request takes {len(encoded)} bytes, and the most is {ARGUMENT_LIMIT}",
            "shorten the text (a character outside of ASCII takes 6 or 12 bytes)",
            ExitStatus.USAGE,
        )
    answer = ctl.json("megaphone_broadcast", encoded)
    refuse_error(answer)
    return answer


def refuse_error(answer: dict[str, Any]) -> None:
    """Turns a document `{"error": {"field", "what", "remedy"}}` into an error.

    Raises:
        CommandError: REFUSED.
    """
    error = answer.get("error")
    if isinstance(error, dict):
        field = error.get("field")
        what = str(error.get("what") or "the node refused it")
        raise CommandError(
            f"{field}: {what}" if field else what,
            str(error.get("remedy") or "change it and send it again"),
            ExitStatus.REFUSED,
        )


def _body(text: str | None, file: str | None) -> str:
    if (text is None) == (file is None):
        raise CommandError(
            "the text is missing" if text is None else "there is both a text and --file",
            "give one of them: megaphone broadcast 'Hello {{ user }}'",
            ExitStatus.USAGE,
        )
    try:
        if "-" in {text, file}:
            content = sys.stdin.buffer.read(ARGUMENT_LIMIT + 1)
        elif file is not None:
            with Path(file).open("rb") as stream:
                content = stream.read(ARGUMENT_LIMIT + 1)
        else:
            return text or ""
        return content.decode()
    except OSError as error:
        raise CommandError(
            f"{file}: {error.strerror}", "give a file that can be read", ExitStatus.USAGE
        ) from error
    except UnicodeDecodeError as error:
        raise CommandError(
            f"{file or 'stdin'} is not UTF-8: byte {error.start}", "convert it", ExitStatus.USAGE
        ) from error
