"""`megaphone status`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from bridge.attach import health
from bridge.cli.control import reach
from bridge.cli.errors import ExitStatus
from bridge.cli.options import EjabberdctlOption, JsonOption

#: Broadcasts in the table, newest first; `--json` has all that the node remembers.
BROADCASTS_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("status")(status)


def status(
    ejabberdctl: EjabberdctlOption = None,
    as_json: JsonOption = False,
    as_tree: Annotated[
        bool,
        typer.Option("--tree", help="The port program's supervision tree: restarts and uptime."),
    ] = False,
) -> None:
    """Show the node, the port program, its workers and the last broadcasts.

    Exit status 8 when the port program is down, 3 when the node is.
    """
    document = reach(ejabberdctl).json("megaphone_status")
    judged = health.judge(document)
    if as_json:
        typer.echo(json.dumps(document))
    elif as_tree:
        tree = (document.get("bridge") or {}).get("tree")
        if isinstance(tree, dict):
            Console(highlight=False, markup=False).print(_tree(tree))
        else:
            typer.echo(f"megaphone: there is no tree: {judged.reason or 'it starts'}", err=True)
    else:
        console = Console(highlight=False, markup=False)
        console.print(_facts(document, judged))
        if workers := _rows(document, "bridge", "workers"):
            console.print(_workers(workers))
        if broadcasts := document.get("broadcasts"):
            console.print(broadcast_table(broadcasts[:BROADCASTS_SHOWN]))
    if not judged.connected:
        raise typer.Exit(ExitStatus.PORT_PROGRAM_DOWN)


def broadcast_table(broadcasts: list[dict[str, Any]]) -> Table:
    """Returns a table of broadcasts, a row each."""
    table = Table(title="Broadcasts", title_justify="left")
    columns = ("id", "state", "recipients", "sent", "gone", "dropped", "failed", "seconds")
    for name in columns:
        numeric = name not in {"id", "state"}
        table.add_column(name, justify="right" if numeric else "left", no_wrap=name == "id")
    for broadcast in broadcasts:
        table.add_row(*(_text(broadcast.get(name)) for name in columns))
    return table


def _facts(document: dict[str, Any], judged: health.Health) -> Table:
    node, port, bridge = (document.get(key) or {} for key in ("node", "port", "bridge"))
    table = Table(show_header=False, box=None)
    if node:
        table.add_row("node", _text(node.get("name")))
        table.add_row("ejabberd", f"{_text(node.get('ejabberd'))}, OTP {_text(node.get('otp'))}")
        table.add_row("mod_megaphone", _text(node.get("version")))
        table.add_row("virtual hosts", ", ".join(map(_text, node.get("vhosts") or [])))
        table.add_row("sessions", _text(node.get("sessions")))
    state = "connected" if judged.connected else judged.reason
    table.add_row("port program", f"{state} (process {_text(port.get('os_pid'))})")
    table.add_row("restarts", _text(port.get("restarts")))
    if bridge:
        table.add_row(
            "bridge", f"{_text(bridge.get('version'))}, Python {_text(bridge.get('python'))}"
        )
        if isinstance(own := bridge.get("sidecar"), dict):
            epoch = f", epoch {own.get('epoch')}" if own.get("state") == "active" else ""
            table.add_row("sidecar", f"{_text(own.get('identity'))}: {own.get('state')}{epoch}")
        table.add_row("http", _text(bridge.get("http") or bridge.get("http_error")))
        table.add_row("memory", _megabytes(bridge.get("rss_bytes")))
    return table


def _workers(workers: list[dict[str, Any]]) -> Table:
    table = Table(title="Workers", title_justify="left")
    for name in ("pid", "state", "batches", "restarts", "memory"):
        table.add_column(name, justify="left" if name == "state" else "right")
    for worker in workers:
        cells = [_text(worker.get(name)) for name in ("pid", "state", "batches", "restarts")]
        table.add_row(*cells, _megabytes(worker.get("rss_bytes")))
    return table


def _tree(node: dict[str, Any]) -> Tree:
    uptime, restarts = node.get("uptime_seconds"), node.get("restarts")
    kind = node.get("type")
    if (pid := node.get("os_pid")) is not None:
        kind = f"{kind} {pid}"
    facts = [_text(node.get("state"))]
    if isinstance(uptime, int | float):
        facts.append(f"up {_duration(uptime)}")
    if restarts:
        facts.append(f"{restarts} restart{'' if restarts == 1 else 's'}")
    tree = Tree(f"{_text(node.get('id'))}  {kind}, {', '.join(facts)}")
    for child in node.get("children") or []:
        tree.add(_tree(child))
    return tree


def _duration(seconds: float) -> str:
    """Returns a time as its two largest units: 3d 4h, 5m 6s."""
    left = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        amount, left = divmod(left, size)
        if amount or parts or unit == "s":
            parts.append(f"{amount}{unit}")
    return " ".join(parts[:2])


def _rows(document: dict[str, Any], section: str, key: str) -> list[dict[str, Any]]:
    found = (document.get(section) or {}).get(key)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _megabytes(value: object) -> str:
    return f"{value / 1_000_000:.0f} MB" if isinstance(value, int | float) else "-"


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
