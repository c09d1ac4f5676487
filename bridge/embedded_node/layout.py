"""What lies where in a private node's directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths inside one private node's directory."""

    root: Path

    @property
    def state(self) -> Path:
        """What is known of the node: name, ports, process, settings."""
        return self.root / "node.json"

    @property
    def lock(self) -> Path:
        """Locked while the node is started or stopped."""
        return self.root / "lock"

    @property
    def configuration(self) -> Path:
        """ejabberd.yml."""
        return self.root / "ejabberd.yml"

    @property
    def ejabberdctl(self) -> Path:
        """The script that speaks to this node only."""
        return self.root / "ejabberdctl"

    @property
    def inetrc(self) -> Path:
        """Erlang's resolver configuration."""
        return self.root / "inetrc"

    @property
    def home(self) -> Path:
        """HOME of the node and of everybody who speaks to it."""
        return self.root / "home"

    @property
    def cookie(self) -> Path:
        """Where Erlang looks for the cookie."""
        return self.home / ".erlang.cookie"

    @property
    def database(self) -> Path:
        """Mnesia's directory, and the node's working directory."""
        return self.root / "database"

    @property
    def modules(self) -> Path:
        """CONTRIB_MODULES_PATH."""
        return self.root / "modules"

    @property
    def logs(self) -> Path:
        """ejabberd.log, console.log, crash dumps."""
        return self.root / "logs"

    @property
    def log(self) -> Path:
        """The log of ejabberd."""
        return self.logs / "ejabberd.log"

    @property
    def console(self) -> Path:
        """What the VM wrote to its standard output and error."""
        return self.logs / "console.log"

    def make(self) -> None:
        """Makes the directories; nobody else may look into them."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for directory in (self.home, self.database, self.modules, self.logs):
            directory.mkdir(mode=0o700, exist_ok=True)
