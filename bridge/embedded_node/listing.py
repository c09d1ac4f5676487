"""Which private nodes run on this machine: read from the processes, so that it is never stale."""

from __future__ import annotations

from pathlib import Path

from bridge.embedded_node import processes, vm
from bridge.embedded_node.layout import Layout


def running_directories() -> list[Path]:
    """The directories of the nodes whose processes this user may look at, in order."""
    named = {Path(value) for _, value in processes.carrying(vm.MARK)}
    return sorted(directory for directory in named if Layout(directory).state.is_file())
