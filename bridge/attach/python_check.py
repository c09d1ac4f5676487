"""Whether the node's own user can run a Python with Megaphone in it: found out by doing it."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bridge.attach.identity import acting_as
from bridge.cli.errors import CommandError, ExitStatus

if TYPE_CHECKING:
    from bridge.attach.node_process import NodeProcess

#: Seconds that the imports may take; a cold disk needs some.
CHECK_TIMEOUT: Final = 60.0

#: The port program's own check (imports, configuration), then what this one wants to know.
_PROGRAM: Final = """
import json, sys
from bridge import port_program, version
if port_program.main(["--check"]) != 0:
    sys.exit("the port program's check failed")
print(json.dumps({"version": version.__version__, "python": sys.version.split()[0]}))
"""

REMEDY: Final = (
    "make an environment that every user can read; in a checkout of Megaphone: python3 -m venv "
    "/opt/megaphone && /opt/megaphone/bin/pip install . && /opt/megaphone/bin/megaphone attach"
)


@dataclass(frozen=True, slots=True)
class PythonFound:
    """A Python that the node's user can run."""

    executable: str
    python: str
    version: str


def check(node: NodeProcess, executable: str) -> PythonFound:
    """Runs the Python as the node's user, in the node's view of the file system.

    Args:
        node: The node that will start it.
        executable: Its absolute path; a virtual environment's own, links not followed.

    Raises:
        CommandError: PERMISSION when that user cannot read or run it, or the node does not see it;
            INCOMPATIBLE when it lacks something; TIMEOUT.
    """
    if not Path(executable).is_absolute():
        raise CommandError(
            f"--python {executable}: not an absolute path",
            "give the whole path, /opt/megaphone/bin/python for example",
            ExitStatus.USAGE,
        )
    if not Path(executable).exists():
        raise CommandError(
            f"--python {executable}: no such file", "give an existing one", ExitStatus.USAGE
        )
    try:
        done = _run(node, (executable, "-I", "-c", _PROGRAM))
    except subprocess.TimeoutExpired as error:
        raise CommandError(
            f"{executable} took more than {CHECK_TIMEOUT:.0f} s to import Megaphone",
            "see what its disk does, then try again",
            ExitStatus.TIMEOUT,
        ) from error
    except OSError as error:
        raise _unreachable(node, executable, error.strerror or str(error)) from error
    if done.returncode in {126, 127} and not done.stdout:
        raise _unreachable(node, executable, done.stderr.strip().rpartition(": ")[2])
    try:
        told = json.loads(done.stdout.splitlines()[-1])
        return PythonFound(executable, told["python"], told["version"])
    except (ValueError, LookupError, TypeError) as error:
        said = f"{done.stderr}\n{done.stdout}".strip().splitlines()
        reason = said[-1] if said else f"exit status {done.returncode}"
        if _imports_here(executable):
            raise CommandError(
                f"user {node.user} cannot run {executable} as you can: {reason}",
                REMEDY,
                ExitStatus.PERMISSION,
            ) from error
        raise CommandError(
            f"{executable} cannot run Megaphone: {reason}",
            f"install it there: {executable} -m pip install . in a checkout of Megaphone",
            ExitStatus.INCOMPATIBLE,
        ) from error


def _run(node: NodeProcess, command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    root = os.geteuid() == 0
    if root and node.own_mounts:
        groups = ",".join(map(str, node.groups))
        command = (
            *("nsenter", "--target", str(node.pid), "--mount", "--"),
            *("setpriv", "--reuid", str(node.uid), "--regid", str(node.gid)),
            *(("--groups", groups) if groups else ("--clear-groups",)),
            *command,
        )
    elif node.own_mounts and not node.sees(Path(command[0])):
        raise FileNotFoundError(2, "the node does not see it", command[0])
    switch = root and not node.own_mounts and node.uid != 0
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        cwd="/",
        env=environment,
        timeout=CHECK_TIMEOUT,
        check=False,
        user=node.uid if switch else None,
        group=node.gid if switch else None,
        extra_groups=node.groups if switch else None,
    )


def _imports_here(executable: str) -> bool:
    """Whether the caller, who may read more, can run it."""
    try:
        done = subprocess.run(
            (executable, "-I", "-c", _PROGRAM),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd="/",
            timeout=CHECK_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _unreachable(node: NodeProcess, executable: str, reason: str) -> CommandError:
    with acting_as(node):
        wall = _first_closed(Path(executable))
    if wall is not None:
        what = f"user {node.user} cannot run {executable}: {wall} is closed to it"
    elif node.own_mounts:
        what = (
            f"the node does not see {executable} (systemd's ProtectHome hides /home, /root and "
            f"/run/user from it): {reason}"
        )
    else:
        what = f"user {node.user} cannot run {executable}: {reason}"
    return CommandError(what, REMEDY, ExitStatus.PERMISSION)


def _first_closed(executable: Path) -> Path | None:
    """The first directory on the way, links followed, that the current user may not enter."""
    pending = [executable]
    seen: set[Path] = set()
    while pending:
        path = pending.pop()
        if path in seen:
            continue
        seen.add(path)
        for directory in reversed(path.parents):
            if not os.access(directory, os.X_OK, effective_ids=True):
                return directory
        if path.is_symlink():
            pending.append(path.parent / path.readlink())
    return None
