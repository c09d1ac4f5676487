"""`megaphone attach`."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from bridge.attach import health, installation, module_options
from bridge.attach.installation import AttachPlan, AttachReport, AttachRequest
from bridge.cli.errors import CommandError, ExitStatus
from bridge.cli.options import EjabberdctlOption, JsonOption
from bridge.version import __version__


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("attach")(attach)


def attach(
    ejabberdctl: EjabberdctlOption = None,
    python: Annotated[
        str | None,
        typer.Option(
            help="The Python that the node starts; the one that runs this command when absent."
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE, an option of mod_megaphone; the value is YAML. Repeatable."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=1, max=600, help="Seconds to wait for the port program.")
    ] = 30.0,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave it attached though the port program fails.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, say what would be done.")
    ] = False,
    pid: Annotated[
        int | None, typer.Option(help="The node's process, when several carry its name.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Install mod_megaphone into the running node and start the port program.

    Everything is checked first. A second attach changes nothing; a newer Megaphone, another Python
    or another option upgrades in place, the other options kept. What fails is taken back.
    """
    options = dict(module_options.parse_assignment(text) for text in option or [])
    if "python" in options:
        raise CommandError("--option python would not be checked", "use --python", ExitStatus.USAGE)
    request = AttachRequest(
        ejabberdctl=ejabberdctl,
        pid=pid,
        python=python,
        options=options,
        timeout=timeout,
        keep=keep,
    )
    quiet = Console(stderr=True, quiet=as_json, highlight=False, markup=False, soft_wrap=True)
    plan = installation.plan(request)
    for warning in plan.warnings:
        quiet.print(f"warning: {warning}")
    if dry_run:
        typer.echo(_document(plan, None) if as_json else _intention(plan))
        return
    report = installation.attach(request, plan, quiet.print)
    typer.echo(_document(plan, report) if as_json else _outcome(report))


def _intention(plan: AttachPlan) -> str:
    node = plan.target.running.name
    match plan.action:
        case "unchanged":
            return f"mod_megaphone {__version__} is attached to {node}; nothing to do"
        case "installed":
            first = f"would install mod_megaphone {__version__} into {node}"
        case "upgraded":
            former = plan.previous_version or "an unknown version"
            first = f"would upgrade mod_megaphone on {node} from {former} to {__version__}"
    return (
        f"{first}\nsources: {plan.target.directory.sources}\n"
        f"python: {plan.python}, as user {plan.target.process.user}\noptions:\n{plan.options}"
    )


def _waits_or_answers(report: AttachReport) -> str:
    if health.judge(report.status).waiting:
        return f"it waits for a sidecar at {report.status['sidecars']['listening']}"
    return "the port program answers"


def _outcome(report: AttachReport) -> str:
    node = report.plan.target.running.name
    match report.action:
        case "unchanged":
            return f"mod_megaphone {__version__} is already attached to {node}, and connected"
        case "installed":
            return f"attached mod_megaphone {__version__} to {node}; {_waits_or_answers(report)}"
        case "upgraded":
            former = report.plan.previous_version or "an unknown version"
            return f"upgraded mod_megaphone on {node} from {former} to {__version__}"


def _document(plan: AttachPlan, report: AttachReport | None) -> str:
    return json.dumps(
        {
            "action": plan.action,
            "done": report is not None,
            "node": plan.target.running.name,
            "ejabberd": plan.target.running.ejabberd,
            "version": __version__,
            "previous_version": plan.previous_version,
            "python": plan.python,
            "sources": str(plan.target.directory.sources),
            "warnings": list(plan.warnings),
            "status": report.status if report is not None else None,
        }
    )
