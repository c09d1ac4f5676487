"""`attach`: checks everything, then installs or upgrades, or leaves everything as it was."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from bridge.attach import configuration, health, module_options, package, python_check, target
from bridge.attach.configuration import MODULE
from bridge.attach.ejabberdctl import NotAttachedError, Outcome
from bridge.cli.errors import CommandError, ExitStatus
from bridge.resources import mod_megaphone_source
from bridge.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bridge.attach.package import Package
    from bridge.attach.target import Target

#: The oldest ejabberd that mod_megaphone runs on, year and month.
OLDEST: Final = (23, 1)

#: Seconds that compiling on the node may take.
INSTALL_TIMEOUT: Final = 180.0

Action = Literal["installed", "upgraded", "unchanged"]


@dataclass(frozen=True, slots=True)
class AttachRequest:
    """What the operator asked for."""

    ejabberdctl: str | None = None
    pid: int | None = None
    python: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 30.0
    keep: bool = False


@dataclass(frozen=True, slots=True)
class AttachPlan:
    """What attach would do, all checks passed."""

    target: Target
    action: Action
    python: str
    package: Package
    options: str
    previous_version: str | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AttachReport:
    """What attach did."""

    action: Action
    plan: AttachPlan
    status: dict[str, Any]


def plan(request: AttachRequest) -> AttachPlan:
    """Checks the node, its configuration, the directories and the Python; changes nothing.

    Raises:
        CommandError: The first check that failed.
    """
    module_options.refuse_unknown(request.options, mod_megaphone_source())
    found = target.find(request.ejabberdctl, request.pid)
    release = found.running.release
    if release is not None and release < OLDEST:
        raise CommandError(
            f"{found.running.name} runs ejabberd {found.running.ejabberd}",
            f"Megaphone needs ejabberd {OLDEST[0]}.{OLDEST[1]:02} or later",
            ExitStatus.INCOMPATIBLE,
        )
    configuration.refuse_forbidden(found.configuration)
    configuration.refuse_mentions(
        found.configuration, "beside the attached module every reload of the node would fail"
    )
    found.directory.refuse_unwritable()
    executable = request.python or sys.executable
    python = python_check.check(found.process, executable)
    if python.version != __version__:
        raise CommandError(
            f"{executable} has Megaphone {python.version}, and this is {__version__}",
            f"run attach from there: {executable} -m bridge.cli.main attach",
            ExitStatus.INCOMPATIBLE,
        )
    return _decide(request, found, executable)


def attach(
    request: AttachRequest, prepared: AttachPlan, say: Callable[[str], None]
) -> AttachReport:
    """Carries a plan out, and takes it back if the port program does not come up.

    Args:
        request: What the operator asked for.
        prepared: What `plan` made of it.
        say: Is told what happens, a line each.

    Raises:
        CommandError: PORT_PROGRAM_DOWN when it did not come up; FAILURE when the node refused to
            install; the node is then as it was, unless the request says `keep`.
    """
    found = prepared.target
    if prepared.action == "unchanged":
        say("waiting for the port program")
        judged, status = health.wait(found.ctl, request.timeout)
        if not (judged.connected or judged.waiting):
            raise CommandError(
                f"mod_megaphone {__version__} is attached, but {judged.reason}",
                "look into ejabberd's log",
                ExitStatus.PORT_PROGRAM_DOWN,
            )
        if found.directory.unsettled:
            with found.directory.locked():
                found.directory.settle()
        return AttachReport("unchanged", prepared, status)
    with found.directory.locked():
        try:
            status = _install(request, prepared, say)
        except BaseException as error:
            if request.keep and isinstance(error, CommandError):
                raise
            say("taking it back")
            _take_back(prepared)
            raise
        found.directory.settle()
    return AttachReport(prepared.action, prepared, status)


def _decide(request: AttachRequest, found: Target, executable: str) -> AttachPlan:
    ours = package.load(mod_megaphone_source())
    installed = found.installed
    status = health.attached(found.ctl) if installed else None
    version = health.judge(status).version if status is not None else None
    there = found.directory.options()
    changes = {**request.options, "python": executable}
    options = module_options.change(there or ours.options, changes)
    warnings = [
        f"{place}: {place.option} has modules of its own, so Megaphone does not run there"
        for place in found.configuration.replaced
    ]
    if found.process.confined:
        warnings.append(
            f"AppArmor enforces {found.process.confined}: it must allow {executable} to run"
        )
    _refuse_other_options(found, changes)
    same = (
        status is not None
        and version == __version__
        and options == there
        and found.directory.installed_sources() == dict(ours.files)
    )
    return AttachPlan(
        target=found,
        action="unchanged" if same else "upgraded" if installed else "installed",
        python=executable,
        package=ours,
        options=options,
        previous_version=version,
        warnings=tuple(warnings),
    )


def _refuse_other_options(found: Target, wanted: Mapping[str, Any]) -> None:
    """The operator's file in CONTRIB_MODULES_CONF_DIR takes the place of the one attach writes."""
    file = found.configuration.own_file
    if file is None:
        return
    there = module_options.read(file.read_text(encoding="utf-8"))
    for name, value in wanted.items():
        if there.get(name) != value:
            raise CommandError(
                f"{file} configures {MODULE} with {name}: {there.get(name)}, and takes the place "
                "of what attach would write",
                f"write `{name}: {json.dumps(value)}` there, or remove the file",
                ExitStatus.CONFIGURATION,
            )


def _install(
    request: AttachRequest, prepared: AttachPlan, say: Callable[[str], None]
) -> dict[str, Any]:
    found = prepared.target
    if prepared.action == "upgraded":
        say(f"removing mod_megaphone {prepared.previous_version or ''} from the node".rstrip())
        found.directory.save_options()
        _uninstall(found)
    say(f"writing {found.directory.sources}")
    found.directory.put(prepared.package, prepared.options)
    say("compiling and starting mod_megaphone on the node")
    outcome = found.ctl.run("module_install", MODULE, timeout=INSTALL_TIMEOUT, patient=True)
    if outcome.status != 0:
        raise _refused(outcome)
    say("waiting for the port program")
    try:
        judged, status = health.wait(found.ctl, request.timeout)
    except NotAttachedError as error:
        reload = found.ctl.run("reload_config")
        raise CommandError(
            f"the node did not start mod_megaphone: {reload.text or 'its log says why'}",
            "mend the node's configuration or the --option, then attach again",
            ExitStatus.CONFIGURATION,
        ) from error
    if not (judged.connected or judged.waiting):
        raise CommandError(
            f"the port program did not come up within {request.timeout:.0f} s: {judged.reason}",
            "look into ejabberd's log; --keep leaves it attached, --timeout waits longer",
            ExitStatus.PORT_PROGRAM_DOWN,
        )
    if judged.version != __version__:
        raise CommandError(
            f"the node still runs mod_megaphone {judged.version}, not {__version__}",
            "restart the node, then attach again",
            ExitStatus.INCOMPATIBLE,
        )
    return status


def _uninstall(found: Target) -> None:
    outcome = found.ctl.run("module_uninstall", MODULE, patient=True, timeout=INSTALL_TIMEOUT)
    if outcome.status != 0 and found.installed:
        raise CommandError(
            f"the node did not uninstall {MODULE}: {outcome.text}",
            "look into ejabberd's log",
            ExitStatus.FAILURE,
        )


def _take_back(prepared: AttachPlan) -> None:
    """Restores the node; a failure in here leaves what the next attach or detach works from."""
    found = prepared.target
    if found.installed:
        _uninstall(found)
    had_sources = found.directory.put_back()
    if prepared.action == "upgraded" and had_sources:
        outcome = found.ctl.run("module_install", MODULE, timeout=INSTALL_TIMEOUT, patient=True)
        if outcome.status != 0:
            raise CommandError(
                f"the former mod_megaphone could not be installed again: {outcome.text}",
                "its sources are in place: megaphone attach, or ejabberdctl module_install "
                f"{MODULE}",
                ExitStatus.FAILURE,
            )
        found.directory.settle()
    elif had_sources:
        found.directory.settle()
    else:
        found.directory.clear()


def _refused(outcome: Outcome) -> CommandError:
    remedy = "look into ejabberd's log"
    if "can't find include" in outcome.text or "undefined parse transform" in outcome.text:
        remedy = "install what compiling for ejabberd needs: apt-get install erlang-dev"
    return CommandError(
        f"the node did not install mod_megaphone: {outcome.text}", remedy, ExitStatus.FAILURE
    )
