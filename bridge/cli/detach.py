"""`megaphone detach`."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from bridge.attach import removal
from bridge.cli.options import EjabberdctlOption, JsonOption


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("detach")(detach)


def detach(
    ejabberdctl: EjabberdctlOption = None,
    pid: Annotated[
        int | None, typer.Option(help="The node's process, when several carry its name.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Take mod_megaphone out of the running node; the node is then as it was before attach."""
    quiet = Console(stderr=True, quiet=as_json, highlight=False, markup=False, soft_wrap=True)
    report = removal.detach(ejabberdctl, pid, quiet.print)
    for warning in report.warnings:
        quiet.print(f"warning: {warning}")
    if as_json:
        document = {
            "action": report.action,
            "node": report.node,
            "warnings": list(report.warnings),
        }
        typer.echo(json.dumps(document))
    elif report.action == "unchanged":
        typer.echo(f"mod_megaphone is not attached to {report.node}; nothing to do")
    else:
        typer.echo(f"detached mod_megaphone from {report.node}")
