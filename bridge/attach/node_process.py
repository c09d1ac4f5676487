"""The running node seen as an OS process: its user, its environment, its directories.

ejabberdctl tells a node's name and nothing of where it keeps things, and Debian's has no `eval`. So
the process is looked up in /proc (proc(5)) by the name on its command line, and its environment,
which ejabberdctl made, is read there.
"""

from __future__ import annotations

import itertools
import os
import pwd
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bridge.cli.errors import CommandError, ExitStatus

PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class NodeProcess:
    """The beam.smp of a node."""

    pid: int
    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    environment: dict[str, str] = field(repr=False)
    arguments: tuple[str, ...] = field(repr=False)  # The cookie may be among them.
    directory: Path

    @property
    def user(self) -> str:
        """The name of the user that it runs as, or its number."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    @property
    def modules(self) -> Path:
        """Where contributed modules are (ext_mod:modules_dir/0)."""
        if given := self.environment.get("CONTRIB_MODULES_PATH"):
            return self.directory / given
        return self.directory / self.environment.get("HOME", "/") / ".ejabberd-modules"

    @property
    def modules_configuration(self) -> Path:
        """Where the operator configures contributed modules (ext_mod:config_dir/0)."""
        if given := self.environment.get("CONTRIB_MODULES_CONF_DIR"):
            return self.directory / given
        return self.modules / "conf"

    @property
    def configuration(self) -> Path:
        """The node's main configuration file (ejabberd_config:path/0)."""
        for flag, option, value in zip(
            self.arguments, self.arguments[1:], self.arguments[2:], strict=False
        ):
            if flag == "-ejabberd" and option == "config":
                return self.directory / value.strip('"')
        given = self.environment.get("EJABBERD_CONFIG_PATH") or "ejabberd.yml"
        return self.directory / given

    @property
    def own_mounts(self) -> bool:
        """Whether it sees other mounts than this process: systemd's ProtectHome, a container."""
        try:
            return _namespace(self.pid, "mnt") != _namespace(os.getpid(), "mnt")
        except OSError:
            return False

    @property
    def confined(self) -> str | None:
        """The AppArmor profile that is enforced on it, None when there is none."""
        try:
            profile = (PROC / str(self.pid) / "attr/current").read_text().strip("\0\n ")
        except OSError:
            return None
        return profile if profile.endswith("(enforce)") else None

    def sees(self, path: Path) -> bool:
        """Whether `path` is for the node the file or directory that it is here."""
        if not self.own_mounts:
            return True
        inside = PROC / str(self.pid) / "root" / path.relative_to("/")
        try:
            here, there = path.stat(), inside.stat()
        except OSError:
            return False
        return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def find(name: str, pid: int | None = None) -> NodeProcess:
    """Finds the process of a node that answered to ejabberdctl.

    Args:
        name: The node's name, host included.
        pid: The process, for the case that several nodes here carry one name.

    Raises:
        CommandError: NODE_NOT_RUNNING when none is here; USAGE when there are several; PERMISSION
            when this user may not look at it.
    """
    found = [number for number in _processes() if _carries(number, name)]
    if pid is not None:
        if pid not in found:
            raise CommandError(
                f"process {pid} is not the node {name}",
                f"its processes here: {', '.join(map(str, found)) or 'none'}",
                ExitStatus.USAGE,
            )
        found = [pid]
    elif len(found) > 1:
        found = [number for number in found if _reachable(number)] or found
    if not found:
        raise CommandError(
            f"the node {name} answers, but none of the processes here is it",
            "run megaphone on the node's own machine, in its container if it has one",
            ExitStatus.NODE_NOT_RUNNING,
        )
    if len(found) > 1:
        raise CommandError(
            f"several processes carry the name {name}: {', '.join(map(str, found))}",
            "choose one with --pid",
            ExitStatus.USAGE,
        )
    return _read(found[0], name)


def _processes() -> list[int]:
    return sorted(int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal())


def _arguments(pid: int) -> tuple[str, ...]:
    try:
        return tuple(
            os.fsdecode(word) for word in (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
        )
    except OSError:
        return ()


def _carries(pid: int, name: str) -> bool:
    arguments = _arguments(pid)
    if not arguments or not Path(arguments[0]).name.startswith("beam"):
        return False
    return any(
        flag in {"-sname", "-name"} and value in {name, name.partition("@")[0]}
        for flag, value in itertools.pairwise(arguments)
    )


def _reachable(pid: int) -> bool:
    """Whether it is in this process's network, where ejabberdctl reached the node."""
    try:
        return _namespace(pid, "net") == _namespace(os.getpid(), "net")
    except OSError:
        return False


def _namespace(pid: int, kind: str) -> str:
    return str((PROC / str(pid) / "ns" / kind).readlink())


def _read(pid: int, name: str) -> NodeProcess:
    place = PROC / str(pid)
    try:
        status = dict(
            line.split(":", 1)
            for line in (place / "status").read_text().splitlines()
            if ":" in line
        )
        environment = dict(
            os.fsdecode(entry).split("=", 1)
            for entry in (place / "environ").read_bytes().split(b"\0")
            if b"=" in entry
        )
        directory = (place / "cwd").readlink()
    except PermissionError as error:
        raise CommandError(
            f"this user may not look at the node's process {pid}",
            "run megaphone as root, or, in a container where root itself may not (it lacks "
            "CAP_SYS_PTRACE), as ejabberd's own user",
            ExitStatus.PERMISSION,
        ) from error
    except OSError as error:
        raise CommandError(
            f"the node {name} ended while it was looked at",
            "start ejabberd and try again",
            ExitStatus.NODE_NOT_RUNNING,
        ) from error
    return NodeProcess(
        pid=pid,
        name=name,
        uid=int(status["Uid"].split()[1]),
        gid=int(status["Gid"].split()[1]),
        groups=tuple(int(group) for group in status.get("Groups", "").split()),
        environment=environment,
        arguments=_arguments(pid),
        directory=directory,
    )
