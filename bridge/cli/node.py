"""`megaphone node`: a private ejabberd for development."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.cli.errors import CommandError, ExitStatus
from bridge.cli.options import JsonOption
from bridge.embedded_node import EmbeddedNode, NodeSettings, NodeStatus
from bridge.embedded_node.listing import running_directories

_Directory = Annotated[
    Path | None, typer.Option("--dir", help="The node's directory.", show_default=False)
]
_Name = Annotated[
    str | None,
    typer.Option(
        "--name",
        help="A name instead of a directory: the node lies under ~/.local/state/megaphone/nodes.",
        show_default="default",
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(
        no_args_is_help=True, help="A private ejabberd for development: loopback only, yours only."
    )
    app.add_typer(group, name="node")

    @group.command()
    def start(
        directory: _Directory = None,
        name: _Name = None,
        host: Annotated[
            list[str] | None,
            typer.Option(
                "--host", help="A virtual host; may be repeated.", show_default="localhost"
            ),
        ] = None,
        ejabberdctl: Annotated[
            str | None,
            typer.Option(
                "--ejabberdctl", help="The installed ejabberd to run, by its ejabberdctl."
            ),
        ] = None,
        json_: JsonOption = False,
    ) -> None:
        """Start a private node; it goes on until `megaphone node stop`."""
        node = EmbeddedNode(_place(directory, name), _settings(host, ejabberdctl))
        node.start(tied=False)
        _show(node.status(), json_)

    @group.command()
    def stop(directory: _Directory = None, name: _Name = None, json_: JsonOption = False) -> None:
        """Stop a private node; its directory stays."""
        node = EmbeddedNode(_existing(_place(directory, name)))
        node.stop()
        _show(node.status(), json_)

    @group.command()
    def status(directory: _Directory = None, name: _Name = None, json_: JsonOption = False) -> None:
        """Show a private node; the exit status is 3 when it does not run."""
        found = EmbeddedNode(_existing(_place(directory, name))).status()
        _show(found, json_)
        if not found.running:
            raise typer.Exit(ExitStatus.NODE_NOT_RUNNING)

    @group.command(name="list")
    def list_(json_: JsonOption = False) -> None:
        """Show the private nodes of this user that run on this machine."""
        found = [EmbeddedNode(directory).status() for directory in running_directories()]
        if json_:
            _print_json([_document(status) for status in found])
            return
        rows = [("node", "state", "process", "port", "directory")]
        rows += [
            (str(one.name), one.state, str(one.pid), str(one.c2s_port), str(one.directory))
            for one in found
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows if found else ():
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            typer.echo("  ".join(cells).rstrip())
        if not found:
            typer.echo("no private node runs", err=True)


def _place(directory: Path | None, name: str | None) -> Path:
    if directory is not None and name is not None:
        raise CommandError("--dir and --name exclude each other", "give one", ExitStatus.USAGE)
    if directory is not None:
        return directory
    chosen = name or "default"
    if chosen in {".", ".."} or "/" in chosen or not chosen.isprintable():
        raise CommandError(
            f"--name {chosen!r} is no name", "use letters and digits, or --dir", ExitStatus.USAGE
        )
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(state) / "megaphone/nodes" / chosen


def _existing(directory: Path) -> Path:
    if not directory.is_dir():
        raise CommandError(
            f"{directory} is not there",
            f"start a node in it: megaphone node start --dir {directory}",
            ExitStatus.NODE_NOT_RUNNING,
        )
    return directory


def _settings(hosts: list[str] | None, ejabberdctl: str | None) -> NodeSettings | None:
    """None leaves a node that is there already as it was."""
    if hosts is None and ejabberdctl is None:
        return None
    return NodeSettings(hosts=tuple(hosts or ("localhost",)), ejabberdctl=ejabberdctl)


def _document(status: NodeStatus) -> dict[str, Any]:
    return {
        "state": status.state,
        "directory": str(status.directory),
        "name": status.name,
        "pid": status.pid,
        "c2s_port": status.c2s_port,
        "hosts": list(status.hosts),
        "ejabberdctl": None if status.ejabberdctl is None else str(status.ejabberdctl),
        "log": None if status.log is None else str(status.log),
    }


def _show(status: NodeStatus, as_json: bool) -> None:
    if as_json:
        _print_json(_document(status))
        return
    lines: list[tuple[str, object]] = [("state", status.state), ("directory", status.directory)]
    if status.name is not None:
        lines += [("node", status.name), ("hosts", ", ".join(status.hosts))]
    if status.running:
        lines += [
            ("process", status.pid),
            ("clients", f"127.0.0.1:{status.c2s_port}, without TLS"),
            ("ejabberdctl", status.ejabberdctl),
            ("log", status.log),
            ("attach", f"megaphone attach --ejabberdctl {status.ejabberdctl}"),
        ]
    for label, value in lines:
        typer.echo(f"{label:<12} {value}")


def _print_json(document: object) -> None:
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
