"""What is remembered of a private node, in one file that is there whole or not at all."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

from bridge.embedded_node.errors import EmbeddedNodeError
from bridge.embedded_node.processes import Identity
from bridge.embedded_node.settings import NodeSettings


@dataclass(frozen=True, slots=True)
class NodeState:
    """Name and ports stay over a restart; `process` is the VM of the last start."""

    name: str
    distribution_port: int
    c2s_port: int
    process: Identity | None = None
    settings: NodeSettings = field(default_factory=NodeSettings)

    def running(self, process: Identity | None) -> Self:
        """The same node with another process."""
        return replace(self, process=process)

    def save(self, path: Path) -> None:
        """Writes it, readable by this user only."""
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(asdict(self), stream, indent=2, default=list)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)


def load(path: Path) -> NodeState | None:
    """Reads what was saved, None when nothing was.

    Raises:
        EmbeddedNodeError: The file is not one that `save` has written.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        process = document["process"]
        return NodeState(
            name=str(document["name"]),
            distribution_port=int(document["distribution_port"]),
            c2s_port=int(document["c2s_port"]),
            process=None if process is None else Identity(process["pid"], process["started"]),
            settings=NodeSettings(**document["settings"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EmbeddedNodeError(
            f"{path} cannot be read as the state of a private node: {error}",
            f"end its processes, then remove {path.parent}",
        ) from error
