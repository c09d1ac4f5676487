"""A private ejabberd: started, asked, stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from bridge.cli.errors import ExitStatus
from bridge.embedded_node import installation, ports, processes, state, vm
from bridge.embedded_node.erl_call import ErlCall
from bridge.embedded_node.errors import EmbeddedNodeError
from bridge.embedded_node.layout import Layout
from bridge.embedded_node.settings import NodeSettings

if TYPE_CHECKING:
    from bridge.embedded_node.processes import Identity

#: Seconds that a node may take to start; a second or two is usual.
START_TIMEOUT: Final = 60.0

#: Seconds that a node may take to stop by itself before it is killed.
STOP_TIMEOUT: Final = 20.0

#: Seconds that what the node had started may outlive it before it is killed.
AFTER_TIMEOUT: Final = 5.0

#: Seconds of one ejabberdctl call.
CTL_TIMEOUT: Final = 65.0

#: Seconds between two looks at a node that is starting; a look costs some milliseconds.
_POLL_INTERVAL: Final = 0.05

#: Starts, each with other ports, when somebody took a port between choosing it and listening.
_PORT_TRIES: Final = 3

_LOG_LINES: Final = 15

#: VMs that go on without who has started them, kept to be reaped should they end before it.
_free: Final[list[subprocess.Popen[bytes]]] = []

_STARTED: Final = (
    "lists:keymember(ejabberd, 1, application:which_applications(5000)) andalso "
    "is_tuple(lists:keyfind({{{port}, {{127,0,0,1}}, tcp}}, 1, "
    "supervisor:which_children(ejabberd_listener)))"
)


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What a private node is doing.

    `stale`: its file says that it runs, and its process has ended. `starting`: its process runs
    and does not answer yet, or no longer.
    """

    state: Literal["running", "starting", "stopped", "stale"]
    directory: Path
    name: str | None = None
    pid: int | None = None
    c2s_port: int | None = None
    hosts: tuple[str, ...] = ()
    ejabberdctl: Path | None = None
    log: Path | None = None

    @property
    def running(self) -> bool:
        """Whether it answers."""
        return self.state == "running"


class EmbeddedNode:
    """One private ejabberd in one directory."""

    #: The password of accounts that `register` makes, unless another is given.
    PASSWORD: Final = "secret"  # noqa: S105 - accounts of a node that only loopback reaches

    def __init__(self, directory: Path, settings: NodeSettings | None = None) -> None:
        """Describes a node; nothing is done before `start`.

        Args:
            directory: Its directory; made when missing. A node that is there already keeps its
                name, its ports and its data.
            settings: What it is to be; those of its last start when None.

        Raises:
            EmbeddedNodeError: The directory's state file is damaged.
        """
        self._layout = Layout(directory.absolute())
        self._settings = settings
        self._child: subprocess.Popen[bytes] | None = None
        self._installation: installation.Installation | None = None
        self._state = state.load(self._layout.state)

    @property
    def directory(self) -> Path:
        """Where everything of it lies."""
        return self._layout.root

    @property
    def name(self) -> str:
        """The Erlang node's name."""
        return self._known().name

    @property
    def c2s_port(self) -> int:
        """The port for XMPP clients on 127.0.0.1, without TLS."""
        return self._known().c2s_port

    @property
    def distribution_port(self) -> int:
        """The port of Erlang's distribution on 127.0.0.1."""
        return self._known().distribution_port

    @property
    def hosts(self) -> tuple[str, ...]:
        """Its virtual hosts."""
        return tuple(self._known().settings.hosts)

    @property
    def pid(self) -> int:
        """The VM's process.

        Raises:
            EmbeddedNodeError: NODE_NOT_RUNNING.
        """
        return self._process().pid

    @property
    def ejabberdctl(self) -> Path:
        """The private ejabberdctl."""
        return self._layout.ejabberdctl

    @property
    def modules_path(self) -> Path:
        """CONTRIB_MODULES_PATH."""
        return self._layout.modules

    @property
    def configuration_path(self) -> Path:
        """ejabberd.yml."""
        return self._layout.configuration

    @property
    def log_path(self) -> Path:
        """The log of ejabberd."""
        return self._layout.log

    @property
    def console_path(self) -> Path:
        """What the VM wrote to its standard output and error."""
        return self._layout.console

    def log(self) -> str:
        """The text of ejabberd's log, empty before there is one."""
        try:
            return self._layout.log.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def start(self, *, tied: bool = True, timeout: float = START_TIMEOUT) -> None:
        """Starts the node and waits until it answers and listens for clients.

        Args:
            tied: Whether it ends with this process, however that ends; otherwise it goes on until
                somebody stops it.
            timeout: Seconds.

        Raises:
            EmbeddedNodeError: EJABBERDCTL_NOT_FOUND; TIMEOUT; FAILURE when it runs already or ended
                while it started, with the log's last lines. Nothing is left running.
        """
        found = installation.find((self._settings or NodeSettings()).ejabberdctl)
        self._installation = found
        self._layout.make()
        with self._locked():
            self._state = state.load(self._layout.state)
            if self._alive() is not None:
                raise EmbeddedNodeError(
                    f"a private node runs already in {self.directory}",
                    f"stop it: megaphone node stop --dir {self.directory}",
                )
            deadline = time.monotonic() + timeout
            for attempt in range(1, _PORT_TRIES + 1):
                self._state = self._prepared()
                vm.write_files(found, self._layout, self._state)
                try:
                    self._launch(found, self._state, tied, deadline)
                except _PortTakenError:
                    if attempt == _PORT_TRIES:
                        raise
                else:
                    break
            if not tied and self._child is not None:
                _free.append(self._child)
                self._child = None

    def stop(self, timeout: float = STOP_TIMEOUT) -> tuple[int, ...]:
        """Stops the node: SIGTERM (init:stop/0), then SIGKILL; no process of it is left.

        Stopping a node that does not run is no error.

        Args:
            timeout: Seconds before the VM is killed.

        Returns:
            The processes beside the VM that did not end with it by themselves and were killed.
        """
        if not self._layout.root.is_dir():
            return ()
        with self._locked():
            self._state = state.load(self._layout.state)
            process = self._alive()
            if process is not None:
                processes.send(process, signal.SIGTERM)
                # A stopped process (SIGSTOP) takes SIGTERM only when it goes on.
                processes.send(process, signal.SIGCONT)
                if processes.wait_gone([process], timeout):
                    processes.send(process, signal.SIGKILL)
                    processes.wait_gone([process], AFTER_TIMEOUT)
            return self._clear()

    def kill(self) -> None:
        """Kills the VM with SIGKILL and waits until it is gone; what it started is left alone."""
        process = self._process()
        processes.send(process, signal.SIGKILL)
        processes.wait_gone([process], AFTER_TIMEOUT)
        self._reap()

    def restart(self, *, tied: bool = True) -> None:
        """Stops and starts it; name, ports and data stay."""
        self.stop()
        self.start(tied=tied)

    def status(self) -> NodeStatus:
        """What it is doing now; asks the node, half a second at most if it hangs."""
        self._state = state.load(self._layout.state)
        if self._state is None:
            return NodeStatus("stopped", self.directory)
        alive = self._alive()
        condition: Literal["running", "starting", "stopped", "stale"]
        if alive is not None:
            condition = "running" if self._answers() else "starting"
        else:
            condition = "stopped" if self._state.process is None else "stale"
        return NodeStatus(
            condition,
            self.directory,
            name=self._state.name,
            pid=None if alive is None else alive.pid,
            c2s_port=self._state.c2s_port,
            hosts=tuple(self._state.settings.hosts),
            ejabberdctl=self.ejabberdctl,
            log=self.log_path,
        )

    def ctl(
        self, *arguments: str, check: bool = True, timeout: float = CTL_TIMEOUT
    ) -> subprocess.CompletedProcess[str]:
        """Runs the private ejabberdctl.

        Args:
            arguments: A command of ejabberd and its arguments; text may be any Unicode.
            check: Whether a status other than 0 is an error.
            timeout: Seconds.

        Raises:
            EmbeddedNodeError: FAILURE with what it said; TIMEOUT.
        """
        try:
            outcome = subprocess.run(
                [str(self.ejabberdctl), *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                env={**os.environ, "LC_ALL": "C.UTF-8"},
                timeout=timeout,
                check=False,
            )
        except FileNotFoundError as error:
            raise self._not_running() from error
        except subprocess.TimeoutExpired as error:
            raise EmbeddedNodeError(
                f"ejabberdctl {arguments[0]} did not end within {timeout:.0f} s",
                "",
                ExitStatus.TIMEOUT,
            ) from error
        if check and outcome.returncode != 0:
            said = " ".join(f"{outcome.stdout} {outcome.stderr}".split())
            raise EmbeddedNodeError(f"ejabberdctl {arguments[0]}: {said}")
        return outcome

    def eval(self, expressions: str, timeout: float = 10.0) -> str:
        """Evaluates Erlang on the node; see `ErlCall.evaluate`.

        Raises:
            EmbeddedNodeError: NODE_NOT_RUNNING, TIMEOUT, FAILURE with the exception.
        """
        return self._erl_call().evaluate(expressions, timeout)

    def register(self, user: str, host: str | None = None, password: str = PASSWORD) -> str:
        """Makes an account; that it exists already is no error.

        Args:
            user: Its local part.
            host: One of the node's hosts; the first when None.
            password: Its password.

        Returns:
            The account's bare JID.

        Raises:
            EmbeddedNodeError: The node refused.
        """
        domain = host or self.hosts[0]
        answer = self.eval(
            f"ejabberd_auth:try_register({_binary(user)}, {_binary(domain)}, {_binary(password)})"
        )
        if answer not in {"ok", "{error,exists}"}:
            raise EmbeddedNodeError(f"{user}@{domain} was not registered: {answer}")
        return f"{user}@{domain}"

    def reconfigure(
        self,
        *,
        hosts: Sequence[str] | None = None,
        modules: Mapping[str, Mapping[str, Any] | None] | None = None,
        options: Mapping[str, Any] | None = None,
        reload: bool = True,
    ) -> None:
        """Rewrites ejabberd.yml and has the node read it.

        Args:
            hosts: The virtual hosts from now on; None leaves them.
            modules: As in NodeSettings, in place of those; None leaves them.
            options: As in NodeSettings, in place of those; None leaves them.
            reload: Whether to run `reload_config`.

        Raises:
            EmbeddedNodeError: The node refused the configuration.
        """
        known = self._known()
        old = known.settings
        settings = dataclasses.replace(
            old,
            hosts=old.hosts if hosts is None else hosts,
            modules=old.modules if modules is None else modules,
            options=old.options if options is None else options,
        )
        self._settings = settings
        self._state = dataclasses.replace(known, settings=settings)
        self._state.save(self._layout.state)
        vm.write_configuration(self._layout, self._state)
        if reload:
            self.ctl("reload_config")

    def _prepared(self) -> state.NodeState:
        """Name and ports, the old ones where that is possible."""
        old = self._state
        settings = self._settings or (old.settings if old else NodeSettings())
        if old and ports.is_free(old.distribution_port) and ports.is_free(old.c2s_port):
            return dataclasses.replace(old, settings=settings, process=None)
        distribution, c2s = ports.choose(2)
        name = old.name if old else f"megaphone-{secrets.token_hex(4)}@{ports.LOOPBACK}"
        return state.NodeState(name, distribution, c2s, None, settings)

    def _launch(
        self,
        found: installation.Installation,
        prepared: state.NodeState,
        tied: bool,
        deadline: float,
    ) -> None:
        marks = {path: _size(path) for path in (self._layout.log, self._layout.console)}
        with self._layout.console.open("ab") as console:
            child = subprocess.Popen(
                vm.command(found, self._layout, prepared, tied),
                stdin=subprocess.PIPE if tied else subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                cwd=self._layout.database,
                env=vm.environment(found, self._layout, prepared),
                start_new_session=True,
            )
        self._child = child
        try:
            identity = processes.identify(child.pid)
            self._state = prepared.running(identity)
            self._state.save(self._layout.state)
            while not self._answers():
                if child.poll() is not None:
                    raise self._start_failed(f"ended with status {child.returncode}", marks)
                if time.monotonic() > deadline:
                    raise self._start_failed("did not answer in time", marks, ExitStatus.TIMEOUT)
                time.sleep(_POLL_INTERVAL)
        except BaseException:
            child.kill()
            child.wait()
            self._clear()
            raise

    def _start_failed(
        self, how: str, marks: Mapping[Path, int], status: ExitStatus = ExitStatus.FAILURE
    ) -> EmbeddedNodeError:
        said = [line for path, mark in marks.items() for line in _lines(path, mark)]
        shown = "\n  ".join(said[-_LOG_LINES:]) or "(nothing in its logs)"
        taken = any("eaddrinuse" in line or "in use" in line for line in said)
        kind: Callable[[str, str, ExitStatus], EmbeddedNodeError]
        kind = _PortTakenError if taken else EmbeddedNodeError
        return kind(
            f"the private node {how}; the last lines of its logs:\n  {shown}\n",
            f"the whole of them: {self._layout.logs}",
            status,
        )

    def _answers(self) -> bool:
        expression = _STARTED.format(port=self.c2s_port)
        try:
            return self._erl_call().evaluate(expression, 1.0) == "true"
        except EmbeddedNodeError:
            return False

    def _clear(self) -> tuple[int, ...]:
        """Ends what the node has left behind, once the VM is gone, and notes that it is stopped."""
        self._reap()
        root = str(self.directory)
        left = [process for process, _ in processes.carrying(vm.MARK, root)]
        stragglers = processes.wait_gone(left, AFTER_TIMEOUT)
        for straggler in stragglers:
            processes.send(straggler, signal.SIGKILL)
        processes.wait_gone(stragglers, AFTER_TIMEOUT)
        if self._state is not None:
            self._state = self._state.running(None)
            self._state.save(self._layout.state)
        return tuple(straggler.pid for straggler in stragglers)

    def _reap(self) -> None:
        if self._child is not None and self._child.poll() is not None:
            if self._child.stdin is not None:
                self._child.stdin.close()
            self._child = None
        _free[:] = [child for child in _free if child.poll() is None]

    def _alive(self) -> Identity | None:
        process = self._state.process if self._state else None
        return process if process is not None and process.alive else None

    def _process(self) -> Identity:
        process = self._alive()
        if process is None:
            raise self._not_running()
        return process

    def _known(self) -> state.NodeState:
        if self._state is None:
            raise self._not_running()
        return self._state

    def _not_running(self) -> EmbeddedNodeError:
        return EmbeddedNodeError(
            f"no private node runs in {self.directory}",
            f"start it: megaphone node start --dir {self.directory}",
            ExitStatus.NODE_NOT_RUNNING,
        )

    def _erl_call(self) -> ErlCall:
        known = self._known()
        if self._installation is None:
            self._installation = installation.find(known.settings.ejabberdctl)
        return ErlCall(self._installation.erl_call, self._layout.home, known.distribution_port)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One start or stop at a time; the second waits, as long as the first may take."""
        descriptor = os.open(self._layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + START_TIMEOUT
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > deadline:
                        raise EmbeddedNodeError(
                            f"another process starts or stops the node in {self.directory}",
                            "wait until it has ended",
                            ExitStatus.TIMEOUT,
                        ) from error
                    time.sleep(_POLL_INTERVAL)
            yield
        finally:
            os.close(descriptor)


class _PortTakenError(EmbeddedNodeError):
    """Somebody listens where the node wanted to."""


def _binary(text: str) -> str:
    """Erlang source of a binary with this text in UTF-8."""
    return f"<<{','.join(map(str, text.encode()))}>>"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _lines(path: Path, mark: int) -> list[str]:
    try:
        with path.open("rb") as stream:
            stream.seek(mark)
            return stream.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
