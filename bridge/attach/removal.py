"""`detach`: takes mod_megaphone out of the node, and every trace of attach with it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from bridge.attach import configuration, health, target
from bridge.attach.configuration import MODULE
from bridge.attach.installation import INSTALL_TIMEOUT
from bridge.cli.errors import CommandError, ExitStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.attach.target import Target

#: Seconds that the port program may take to end once the module is gone.
END_TIMEOUT: Final = 10.0

#: Seconds between two looks at it.
_END_POLL: Final = 0.05


@dataclass(frozen=True, slots=True)
class DetachReport:
    """What detach did."""

    action: Literal["detached", "unchanged"]
    node: str
    warnings: tuple[str, ...]


def detach(ejabberdctl: str | None, pid: int | None, say: Callable[[str], None]) -> DetachReport:
    """Uninstalls mod_megaphone and removes what attach made.

    Args:
        ejabberdctl: Path or command line, None to look for it.
        pid: The node's process, for when several carry its name.
        say: Is told what happens, a line each.

    Raises:
        CommandError: CONFIGURATION when the node could not boot afterwards; as `target.find`.
    """
    found = target.find(ejabberdctl, pid)
    directory = found.directory
    installed = found.installed
    if installed:
        _refuse_dead_boot(found)
    leftovers = directory.sources.exists() or directory.private.exists()
    if not installed and not leftovers:
        return DetachReport("unchanged", found.running.name, ())
    directory.refuse_unwritable()
    warnings: list[str] = []
    with directory.locked():
        if installed:
            status = health.attached(found.ctl)
            say("removing mod_megaphone from the node")
            outcome = found.ctl.run(
                "module_uninstall", MODULE, timeout=INSTALL_TIMEOUT, patient=True
            )
            if found.installed:
                raise CommandError(
                    f"the node did not uninstall {MODULE}: {outcome.text}",
                    "look into ejabberd's log",
                    ExitStatus.FAILURE,
                )
            if outcome.status != 0:
                warnings.append(f"the node's configuration does not reload: {outcome.text}")
            warnings += _still_running(status or {})
        say(f"removing {directory.sources}")
        directory.clear()
    return DetachReport("detached" if installed else "unchanged", found.running.name, (*warnings,))


def _refuse_dead_boot(found: Target) -> None:
    """What names a module that is no longer installed keeps the node from booting."""
    configuration.refuse_mentions(
        found.configuration, "without the module the node would not boot again"
    )
    if found.configuration.own_file is not None:
        raise CommandError(
            f"{found.configuration.own_file} configures {MODULE}: without the module the node "
            "would not boot again",
            "move that file away first",
            ExitStatus.CONFIGURATION,
        )


def _still_running(status: dict[str, Any]) -> list[str]:
    port = status.get("port")
    os_pid = port.get("os_pid") if isinstance(port, dict) else None
    if not isinstance(os_pid, int):
        return []
    deadline = time.monotonic() + END_TIMEOUT
    while Path(f"/proc/{os_pid}").exists():
        if time.monotonic() >= deadline:
            return [f"the port program (process {os_pid}) has not ended yet"]
        time.sleep(_END_POLL)
    return []
