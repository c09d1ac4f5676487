"""A stack of docker-compose.yml under a name, with ports and a secret of its own."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bridge.cli.errors import ExitStatus

ROOT = Path(__file__).parents[2]

#: Compose's label on all that it makes.
LABEL = "com.docker.compose.project"


def docker(*arguments: str, timeout: float = 60, **more: Any) -> str:
    """Runs the docker command; its standard output, stripped."""
    return run(["docker", *arguments], timeout=timeout, **more).stdout.strip()


def run(
    command: Sequence[str], timeout: float, *, check: bool = True, **more: Any
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, **more
    )
    if check and done.returncode != 0:
        raise AssertionError(
            f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout[-4000:]}"
            f"{done.stderr[-4000:]}"
        )
    return done


def wait_until(
    condition: Callable[[], Any], timeout: float, what: Callable[[], object] | str
) -> Any:
    """Waits until the condition holds, and gives what it gave."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            shown = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {timeout:g} s: {shown}")
        time.sleep(0.1)
    return found


class Stack:
    """One project of Compose.

    Args:
        project: Its name.
        directory: Where its secrets are.
        environment: Variables of docker-compose.yml.
        files: Overrides, relative to the checkout.
    """

    def __init__(
        self, project: str, directory: Path, environment: dict[str, str], files: Sequence[str] = ()
    ) -> None:
        self.project = project
        #: Every volume that a container of it has had.
        self.volumes: set[str] = set()
        self.secret = directory / "secrets/megaphone_secret"
        self.environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": project,
            "COMPOSE_FILE": ":".join(["docker-compose.yml", *files]),
            "COMPOSE_PROFILES": "",
            "HEALTH_INTERVAL": "2s",
            "XMPP_PORT": "0",
            "MEGAPHONE_PORT": "0",
            "PROMETHEUS_PORT": "0",
            "MEGAPHONE_SECRET_FILE": str(self.secret),
            "GRAFANA_PASSWORD_FILE": str(directory / "secrets/grafana_admin_password"),
            **environment,
        }

    def with_files(self, *files: str) -> "Stack":
        """The same project with more overrides."""
        known = self.environment["COMPOSE_FILE"]
        environment = {**self.environment, "COMPOSE_FILE": ":".join([known, *files])}
        found = Stack(self.project, self.secret.parent.parent, environment)
        found.volumes = self.volumes
        return found

    def compose(
        self, *arguments: str, timeout: float = 180, check: bool = True, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """Runs Compose, whichever is here."""
        self._note_volumes()
        return run(
            ["scripts/compose", *arguments],
            timeout,
            check=check,
            cwd=ROOT,
            env=self.environment,
            **more,
        )

    def up(self, *arguments: str, timeout: float = 420) -> None:
        """As `make compose-up`: until all is healthy."""
        self.compose("up", *arguments, timeout=timeout)

    def container(self, service: str, index: int = 1) -> str:
        """The id of a container."""
        found = docker(
            *("ps", "-aq", "--no-trunc"),
            *("--filter", f"label={LABEL}={self.project}"),
            *("--filter", f"label=com.docker.compose.service={service}"),
            *("--filter", f"label=com.docker.compose.container-number={index}"),
        ).split()
        assert len(found) == 1, f"{service} {index}: {found}"
        return found[0]

    def containers(self) -> list[str]:
        return docker(
            "ps", "-aq", "--no-trunc", "--filter", f"label={LABEL}={self.project}"
        ).split()

    def inspect(self, service: str, index: int = 1) -> dict[str, Any]:
        """What Docker says of a container."""
        return inspect(self.container(service, index))

    def health(self, service: str, index: int = 1) -> str:
        state = self.inspect(service, index)["State"]
        return state["Health"]["Status"] if state["Running"] else state["Status"]

    def wait_healthy(self, service: str, index: int = 1, timeout: float = 60) -> None:
        wait_until(
            lambda: self.health(service, index) == "healthy",
            timeout,
            lambda: f"{service} healthy: {self.logs(service, index)[-3000:]}",
        )

    def port(self, service: str, inner: int, index: int = 1) -> int:
        """The port on the host's loopback; another one after each start."""
        (bound,) = self.inspect(service, index)["NetworkSettings"]["Ports"][f"{inner}/tcp"]
        assert bound["HostIp"] == "127.0.0.1"
        return int(bound["HostPort"])

    def logs(self, service: str, index: int = 1) -> str:
        done = run(["docker", "logs", self.container(service, index)], 30)
        return done.stdout + done.stderr

    def megaphone(self, *arguments: str, index: int = 1, **more: Any) -> Any:
        """The command in the sidecar's container, as an operator runs it."""
        return self.compose(
            *("exec", "-T", f"--index={index}", "megaphone", "megaphone", *arguments), **more
        )

    def wait_ready_reason(self, wanted: str, timeout: float = 20) -> None:
        """Waits until `megaphone ready` says why it is not."""

        def said() -> bool:
            done = self.megaphone("ready", check=False)
            return done.returncode == ExitStatus.PORT_PROGRAM_DOWN and wanted in done.stderr

        wait_until(said, timeout, lambda: self.megaphone("ready", check=False).stderr)

    def status(self, index: int = 1) -> dict[str, Any]:
        """`megaphone status`, empty while there is none."""
        shown = self.megaphone("status", "--json", index=index, check=False).stdout
        document = json.loads(shown) if shown else {}
        return {} if "error" in document else document

    def sidecar(self, index: int = 1) -> dict[str, Any]:
        """What a sidecar says of itself, empty while it says nothing."""
        return (self.status(index).get("bridge") or {}).get("sidecar") or {}

    def active(self, index: int = 1) -> bool:
        """Whether this sidecar is the one that works."""
        return self.sidecar(index).get("state") == "active"

    def ctl(self, *arguments: str) -> str:
        return self.compose("exec", "-T", "ejabberd", "ejabberdctl", *arguments).stdout

    def register(self, user: str, password: str) -> None:
        self.ctl("register", user, "localhost", password)

    def eval(self, expression: str, timeout: float = 60) -> str:
        """An Erlang expression's value in the node, as text."""
        answer = docker(
            *("exec", "-i", self.container("ejabberd"), "sh", "-c"),
            f'"$(dirname "$(readlink -f /usr/bin/erl)")/erl_call" -h "test$$"'
            f" -address 127.0.0.1:5210 -timeout {timeout:.0f} -e",
            input=f"{expression}.\n",
            timeout=timeout + 10,
        )
        match = re.fullmatch(r"\{ok, (.*)\}", answer, re.DOTALL)
        assert match, answer
        return match[1]

    def down(self) -> None:
        """Ends it; AssertionError when anything is left."""
        pids = {inspect(one)["State"]["Pid"] for one in self.containers()} - {0}
        self.compose("down", "-v", timeout=180)
        assert leftovers(self.project) == {}
        volumes = self.volumes.intersection(docker("volume", "ls", "-q").split())
        assert not volumes, f"volumes of containers that are gone: {volumes}"
        left = {pid for pid in pids if Path(f"/proc/{pid}").exists()}
        assert not left, f"processes of containers that are gone: {left}"

    def _note_volumes(self) -> None:
        if containers := self.containers():
            self.volumes |= {
                mount["Name"]
                for one in json.loads(docker("inspect", *containers))
                for mount in one["Mounts"]
                if mount["Type"] == "volume"
            }


def inspect(container: str) -> dict[str, Any]:
    (found,) = json.loads(docker("inspect", container))
    return found


def leftovers(project: str) -> dict[str, list[str]]:
    """What Docker still has of a project."""
    label = f"label={LABEL}={project}"
    found = {
        "containers": docker("ps", "-aq", "--filter", label).split(),
        "networks": docker("network", "ls", "-q", "--filter", label).split(),
        "volumes": docker("volume", "ls", "-q", "--filter", label).split(),
    }
    return {kind: names for kind, names in found.items() if names}
