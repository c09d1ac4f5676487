"""The node that attach or detach works on, checked so far as both need it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.attach import configuration, identity, node_process
from bridge.attach.configuration import MODULE, Configuration
from bridge.attach.ejabberdctl import Ejabberdctl, RunningNode
from bridge.attach.module_directory import ModuleDirectory

if TYPE_CHECKING:
    from bridge.attach.node_process import NodeProcess


@dataclass(frozen=True, slots=True)
class Target:
    """A running node, its process, its configuration, its module directory."""

    ctl: Ejabberdctl
    running: RunningNode
    process: NodeProcess
    configuration: Configuration
    directory: ModuleDirectory

    @property
    def installed(self) -> bool:
        """Whether ejabberd counts mod_megaphone as installed."""
        listed = self.ctl.run("modules_installed").output
        return any(line.split("\t")[0].strip() == MODULE for line in listed.splitlines())


def find(ejabberdctl: str | None, pid: int | None) -> Target:
    """Finds the node and reads its configuration.

    Raises:
        CommandError: As `Ejabberdctl.node`, `node_process.find` and `configuration.read`;
            PERMISSION for a user who is neither root nor the node's.
    """
    ctl = Ejabberdctl.find(ejabberdctl)
    running = ctl.node()
    process = node_process.find(running.name, pid)
    identity.refuse_other_user(process)
    return Target(ctl, running, process, configuration.read(process), ModuleDirectory(process))
