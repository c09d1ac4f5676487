"""Running ejabberdctl: found, bounded in time and output, its failures told apart."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Self

from bridge.cli.errors import CommandError, ExitStatus

#: Variable that names ejabberdctl, with arguments if need be; `--ejabberdctl` goes before it.
ENVIRONMENT: Final = "MEGAPHONE_EJABBERDCTL"

#: Seconds that one ejabberdctl call may take. It gives up by itself after 60 s.
CALL_TIMEOUT: Final = 65.0

#: Bytes of its output that are read; a status with a thousand broadcasts is far below.
OUTPUT_LIMIT: Final = 16 * 1024 * 1024

#: Bytes that Linux takes as one argument (MAX_ARG_STRLEN), its final NUL left out.
ARGUMENT_LIMIT: Final = 128 * 1024 - 1

#: Seconds between SIGTERM and SIGKILL. `su` passes SIGTERM on and takes two seconds itself.
TERMINATION_GRACE: Final = 3.0

#: Where packages put ejabberdctl, for those whose PATH has no sbin.
USUAL_PLACES: Final = (
    "/usr/sbin/ejabberdctl",
    "/usr/local/sbin/ejabberdctl",
    "/sbin/ejabberdctl",
    "/opt/ejabberd/bin/ejabberdctl",
    "/home/ejabberd/bin/ejabberdctl",
)

#: ejabberdctl's own exit statuses (ejabberd_ctl.hrl, and Debian's script: 7 is a wrong user).
_STATUS_BADRPC: Final = 3
_STATUS_WRONG_USER: Final = 7

_UNKNOWN: Final = re.compile(r"unknown command|undefined function '?(mod_)?megaphone")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one call of ejabberdctl gave."""

    status: int
    output: str
    errors: str

    @property
    def unknown_command(self) -> bool:
        """Whether the node runs but does not know the command, or what carries it out is gone."""
        return self.status != 0 and bool(_UNKNOWN.search(self.output + self.errors))

    @property
    def text(self) -> str:
        """What it printed, on one line and short enough for an error message."""
        lines = [line.strip() for line in f"{self.output}\n{self.errors}".splitlines()]
        told = [line for line in lines if line and line != "Error: error"]
        joined = "; ".join(told)
        return joined if len(joined) <= 600 else joined[:600] + "..."


@dataclass(frozen=True, slots=True)
class RunningNode:
    """A node that answered: its name and ejabberd's version, as it gives them."""

    name: str
    ejabberd: str

    @property
    def release(self) -> tuple[int, int] | None:
        """Year and month of the release, None when the operator replaced the text."""
        found = re.match(r"(\d+)\.(\d+)", self.ejabberd)
        return (int(found[1]), int(found[2])) if found else None


@dataclass(frozen=True, slots=True)
class Ejabberdctl:
    """An ejabberdctl with the arguments that choose its node."""

    command: tuple[str, ...]

    @classmethod
    def find(cls, given: str | None = None) -> Self:
        """Finds ejabberdctl: what was given, the variable, PATH, the usual places.

        Args:
            given: A path, or a command line such as `ejabberdctl --config-dir /srv/xmpp`.

        Raises:
            CommandError: EJABBERDCTL_NOT_FOUND.
        """
        wanted = given or os.environ.get(ENVIRONMENT)
        if wanted:
            words = [wanted] if Path(wanted).exists() else shlex.split(wanted)
            program = shutil.which(words[0]) if words else None
            if program is None:
                raise CommandError(
                    f"{wanted}: no such program",
                    "give the path of ejabberdctl: --ejabberdctl /usr/sbin/ejabberdctl",
                    ExitStatus.EJABBERDCTL_NOT_FOUND,
                )
            return cls((str(Path(program).absolute()), *words[1:]))
        versions = (str(path) for path in sorted(Path("/opt").glob("ejabberd-*/bin/ejabberdctl")))
        for place in ("ejabberdctl", *USUAL_PLACES, *versions):
            if (program := shutil.which(place)) is not None:
                return cls((program,))
        raise CommandError(
            "ejabberdctl is not here",
            "install ejabberd, or say where it is: --ejabberdctl /path/to/ejabberdctl",
            ExitStatus.EJABBERDCTL_NOT_FOUND,
        )

    def run(self, *arguments: str, timeout: float = CALL_TIMEOUT, patient: bool = False) -> Outcome:
        """Runs one command on the node.

        Text goes through whatever the caller's locale is: the node's reading of UTF-8 arguments
        depends on LC_ALL, so it is set.

        Args:
            arguments: The command and its arguments.
            timeout: Seconds; after them ejabberdctl is ended. The node may go on with the command.
            patient: Switches off ejabberdctl's own limit of 60 s.

        Raises:
            CommandError: NODE_NOT_RUNNING, PERMISSION, TIMEOUT, USAGE (an argument too long),
                EJABBERDCTL_NOT_FOUND. A command that the node refused is an Outcome.
        """
        for argument in arguments:
            if len(os.fsencode(argument)) > ARGUMENT_LIMIT:
                raise CommandError(
                    f"{arguments[0]}: an argument is longer than {ARGUMENT_LIMIT} bytes",
                    "shorten it: Linux takes no more in one argument",
                    ExitStatus.USAGE,
                )
        outcome = self._execute((*(("--no-timeout",) if patient else ()), *arguments), timeout)
        self._refuse_unreachable(outcome)
        return outcome

    def json(self, *arguments: str, timeout: float = CALL_TIMEOUT) -> dict[str, Any]:
        """Runs one of mod_megaphone's commands and reads the document that it prints.

        Raises:
            CommandError: As `run`; FAILURE when mod_megaphone is not attached or answers with
                something else than a document.
        """
        outcome = self.run(*arguments, timeout=timeout)
        if outcome.unknown_command:
            raise NotAttachedError
        document = _document(outcome.output)
        if document is None:
            raise CommandError(
                f"{arguments[0]} failed on the node: {outcome.text or 'it printed nothing'}",
                "look into ejabberd's log",
                ExitStatus.FAILURE,
            )
        return document

    def node(self) -> RunningNode:
        """Asks which node runs.

        Raises:
            CommandError: As `run`; NODE_NOT_RUNNING when the VM is up and ejabberd is not.
        """
        outcome = self.run("status")
        name = re.search(r"The node (\S+) is \S+ with status", outcome.output)
        version = re.search(r"^ejabberd (.+) is running in that node", outcome.output, re.MULTILINE)
        if name is None or version is None:
            raise CommandError(
                f"ejabberd is not running: {outcome.text or 'ejabberdctl status says nothing'}",
                "wait until it has started, or look into its log",
                ExitStatus.NODE_NOT_RUNNING,
            )
        return RunningNode(name[1].strip("'"), version[1])

    def _execute(self, arguments: tuple[str, ...], timeout: float) -> Outcome:
        # Over HTTP (since 25.03) ejabberdctl passes an argument with quotes on as broken JSON.
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "CTL_OVER_HTTP": ""}
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(
                    (*self.command, *arguments),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=errors,
                    cwd="/",
                    env=environment,
                    start_new_session=True,
                )
            except PermissionError as error:
                raise CommandError(
                    f"{self.command[0]} cannot be run: {error.strerror}",
                    "run megaphone as root, or as ejabberd's user",
                    ExitStatus.PERMISSION,
                ) from error
            except OSError as error:
                raise CommandError(
                    f"{self.command[0]} cannot be run: {error.strerror}",
                    "give the path of ejabberdctl with --ejabberdctl",
                    ExitStatus.EJABBERDCTL_NOT_FOUND,
                ) from error
            try:
                status = process.wait(timeout)
            except subprocess.TimeoutExpired as error:
                _end(process)
                raise CommandError(
                    f"ejabberdctl {arguments[0]} did not answer within {timeout:.0f} s",
                    "see whether the node is busy or hangs, then try again",
                    ExitStatus.TIMEOUT,
                ) from error
            except BaseException:
                _end(process)
                raise
            return Outcome(status, _read(output), _read(errors))

    def _refuse_unreachable(self, outcome: Outcome) -> None:
        if outcome.status == _STATUS_WRONG_USER and "can only be run by" in outcome.errors:
            raise CommandError(
                f"ejabberdctl refuses this user: {outcome.errors.strip()}",
                "run megaphone as root, or as ejabberd's user",
                ExitStatus.PERMISSION,
            )
        unreachable = re.search(
            r"Failed RPC connection to the node '?([^':]+)'?: (.+)", outcome.output
        )
        if unreachable and unreachable[2].strip() == "timeout":
            raise CommandError(
                f"the node {unreachable[1]} did not answer in time",
                "see whether it is busy or hangs, then try again",
                ExitStatus.TIMEOUT,
            )
        if unreachable or outcome.status == _STATUS_BADRPC:
            name = unreachable[1] if unreachable else "of this ejabberdctl"
            raise CommandError(
                f"the node {name} is not running",
                "start ejabberd first, or choose another node with --ejabberdctl",
                ExitStatus.NODE_NOT_RUNNING,
            )


class NotAttachedError(CommandError):
    """The node runs, and knows no command of mod_megaphone."""

    def __init__(self) -> None:
        super().__init__(
            "mod_megaphone is not attached to this node",
            "run: megaphone attach",
            ExitStatus.FAILURE,
        )


def _document(text: str) -> dict[str, Any] | None:
    decoder = json.JSONDecoder()
    for start in re.finditer(r"^\{", text, re.MULTILINE):
        with contextlib.suppress(ValueError, RecursionError):
            document, _end_of_it = decoder.raw_decode(text, start.start())
            if isinstance(document, dict):
                return document
    return None


def _read(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read(OUTPUT_LIMIT).decode(errors="replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(TERMINATION_GRACE)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
