"""`megaphone capacity`."""

from __future__ import annotations

import json
from typing import Any, Final

import typer
from rich.console import Console
from rich.table import Table

from bridge.cli.control import reach
from bridge.cli.errors import CommandError, ExitStatus
from bridge.cli.options import EjabberdctlOption, JsonOption

#: What to change to have more of a resource.
REMEDIES: Final = {
    "memory": "more memory, or less for each session: shorter offline queues, hibernating sessions",
    "cpu": "more cores, or less work for each session: look at the run queues and the stanza rates",
    "processes": "the Erlang VM's limit: ERL_PROCESSES in ejabberdctl.cfg, `+P` for erl",
    "ports": "the Erlang VM's limit: ERL_MAX_PORTS in ejabberdctl.cfg, `+Q` for erl",
    "file_descriptors": "the system's limit: LimitNOFILE= in ejabberd's unit, or ulimit -n",
}


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("capacity")(capacity)


def capacity(
    ejabberdctl: EjabberdctlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how many sessions the node could hold, by each resource, and what to change.

    Exit status 8 when the port program is down, 3 when the node is.
    """
    document = reach(ejabberdctl).json("megaphone_status")
    bridge = document.get("bridge")
    if not isinstance(bridge, dict):
        raise CommandError(
            f"the port program gives no estimate: {document.get('bridge_error')}",
            "megaphone status shows its state",
            ExitStatus.PORT_PROGRAM_DOWN,
        )
    estimates = [one for one in bridge.get("capacity") or [] if isinstance(one, dict)]
    if as_json:
        typer.echo(json.dumps({"capacity": estimates}))
        return
    console = Console(highlight=False, markup=False)
    if not estimates:
        console.print(
            "Nothing is known yet: too few sessions, or the port program has just started."
        )
        return
    console.print(_table(estimates))
    console.print(_verdict(estimates[0]))
    if any(one.get("method") == "average" for one in estimates):
        console.print(
            "* the average, what the node needs without sessions included: the number of sessions"
            " has not changed enough to tell what one more takes. There is room for more than that."
        )


def _table(estimates: list[dict[str, Any]]) -> Table:
    table = Table(title=f"{estimates[0]['sessions']:,} sessions", title_justify="left")
    table.add_column("resource")
    for name in ("used", "usable", "a session takes", "holds", "between"):
        table.add_column(name, justify="right")
    for one in estimates:
        resource = one["resource"]
        table.add_row(
            resource.replace("_", " "),
            quantity(resource, one["used"]),
            quantity(resource, one["usable"]),
            quantity(resource, one["cost"]) + ("*" if one["method"] == "average" else ""),
            _sessions(one["capacity"]),
            f"{_sessions(one['low'])} and {_most(one['high'])}",
        )
    return table


def _verdict(first: dict[str, Any]) -> str:
    resource = first["resource"]
    name = "The processor" if resource == "cpu" else resource.replace("_", " ").capitalize()
    return (
        f"{name} ends first, at about"
        f" {_sessions(first['capacity'])} sessions.\nTo hold more: {REMEDIES[resource]}."
    )


def quantity(resource: str, value: float) -> str:
    """Returns so much of a resource, with its unit."""
    if resource == "memory":
        for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
            if value >= size:
                return f"{value / size:.1f} {unit}"
        return f"{value:.0f} B"
    if resource == "cpu":
        if value < 0.001:
            return f"{value * 1e6:.1f} millionths of a core"
        return f"{value:.3g} cores"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _most(value: float | None) -> str:
    return "more" if value is None else _sessions(value)


def _sessions(value: float) -> str:
    """Three digits are all that an estimate has."""
    return f"{float(f'{value:.3g}'):,.0f}"
