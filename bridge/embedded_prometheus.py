"""A private Prometheus with Megaphone's configuration, rules and page: started, asked, stopped."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from bridge.cli.errors import CommandError, ExitStatus
from bridge.embedded_node import ports
from bridge.resources import prometheus_files

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Seconds that it may take to start; less than one is usual.
START_TIMEOUT: Final = 30.0

#: Seconds that it may take to write what it has and end.
STOP_TIMEOUT: Final = 10.0

#: Seconds of one request.
REQUEST_TIMEOUT: Final = 10.0

#: Bytes of an answer.
ANSWER_LIMIT: Final = 64 * 1024 * 1024

#: Seconds from its last word to its end.
ENDING: Final = 1.0

_POLL_INTERVAL: Final = 0.05
_LOG_LINES: Final = 10


def find(command: str) -> str:
    """The path of a Prometheus.

    Raises:
        CommandError: It is not installed.
    """
    found = shutil.which(command)
    if found is None:
        raise CommandError(
            f"{command} is not installed",
            "install Debian's package: apt-get install --no-install-recommends prometheus",
        )
    return found


class EmbeddedPrometheus:
    """One private Prometheus in one directory, on a free port of loopback.

    Attributes:
        url: Where it listens, without a slash at the end.
    """

    def __init__(
        self,
        directory: Path,
        targets: Sequence[str],
        *,
        interval: int = 1,
        command: str = "prometheus",
    ) -> None:
        """Describes it; nothing is done before `start`.

        Args:
            directory: For its files; made when missing.
            targets: What it scrapes: `host:port` of port programs.
            interval: Seconds between two scrapes, and between two looks at the rules.
            command: The program.

        Raises:
            CommandError: No port is free.
        """
        self._directory = directory
        self._targets = list(targets)
        self._interval = f"{interval}s"
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._address = f"{ports.LOOPBACK}:{ports.choose(1)[0]}"
        self.url = f"http://{self._address}"
        # An operator's proxy knows nothing of this machine's loopback.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    @property
    def console(self) -> str:
        """The address of Megaphone's page."""
        return f"{self.url}/consoles/megaphone.html"

    @property
    def pid(self) -> int:
        """Its process.

        Raises:
            CommandError: Before `start`, and after `stop`.
        """
        if self._process is None:
            raise CommandError("Prometheus does not run", "start it first")
        return self._process.pid

    def start(self, timeout: float = START_TIMEOUT) -> None:
        """Starts it and waits until it is ready.

        It ends with the thread that called this, however that ends (PR_SET_PDEATHSIG).

        Args:
            timeout: Seconds.

        Raises:
            CommandError: It is not installed; it ended, or was not ready in time, with the last
                lines of its log.
        """
        program = find(self._command)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._write_configuration()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                (
                    *(sys.executable, "-I", "-m", "erlang_port.spawned", str(os.getpid())),
                    *self._command_line(program),
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._directory,
                # Ctrl-C is for who started it; that one ends it.
                start_new_session=True,
            )
        try:
            self._wait_ready(time.monotonic() + timeout)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends it, by SIGKILL if it takes too long; that it has ended is no error."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def check(self, patience: float = 0.0) -> None:
        """Sees that it runs.

        Args:
            patience: Seconds that it may take to be seen ending: one that was killed has closed its
                sockets before it can be waited for.

        Raises:
            CommandError: It has ended, with the last lines of its log.
        """
        if self._process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self._process.wait(patience)
            raise self._failed(f"ended with status {status}")

    def get(self, path: str, **parameters: str) -> dict[str, Any]:
        """What its HTTP API answers, `data` of it.

        Args:
            path: What follows `/api/v1/`.
            parameters: Of the query.

        Raises:
            CommandError: It refused the query, or does not answer.
        """
        query = urllib.parse.urlencode(parameters)
        try:
            with self._opener.open(
                f"{self.url}/api/v1/{path}?{query}", timeout=REQUEST_TIMEOUT
            ) as response:
                answer: dict[str, Any] = json.loads(response.read(ANSWER_LIMIT))["data"]
                return answer
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(4096).decode(errors="replace")
            raise CommandError(f"Prometheus refused {path} {parameters}: {said}") from error
        except OSError as error:
            self.check(ENDING)
            raise CommandError(
                f"Prometheus does not answer: {error}", f"its log: {self._log}", ExitStatus.TIMEOUT
            ) from error

    @property
    def _log(self) -> Path:
        return self._directory / "prometheus.log"

    def _command_line(self, program: str) -> tuple[str, ...]:
        return (
            program,
            f"--config.file={self._directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._directory / 'data'}",
            f"--web.listen-address={self._address}",
            f"--web.console.templates={prometheus_files() / 'consoles'}",
        )

    def _write_configuration(self) -> None:
        """Ours, for these targets, at this pace, with the rules where they lie."""
        source = prometheus_files()
        document = yaml.safe_load((source / "prometheus.yml").read_text(encoding="utf-8"))
        document["global"] = {
            "scrape_interval": self._interval,
            "scrape_timeout": self._interval,
            "evaluation_interval": self._interval,
        }
        document["rule_files"] = [str(source / pattern) for pattern in document["rule_files"]]
        (job,) = document["scrape_configs"]
        job["static_configs"] = [{"targets": self._targets}]
        text = yaml.safe_dump(document, sort_keys=False)
        (self._directory / "prometheus.yml").write_text(text, encoding="utf-8")

    def _wait_ready(self, deadline: float) -> None:
        while True:
            self.check()
            try:
                self._opener.open(f"{self.url}/-/ready", timeout=REQUEST_TIMEOUT).close()
                return
            except urllib.error.HTTPError as error:
                error.close()  # Not ready yet, and the answer holds the connection.
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise self._failed("was not ready in time", ExitStatus.TIMEOUT)
            time.sleep(_POLL_INTERVAL)

    def _failed(self, how: str, status: ExitStatus = ExitStatus.FAILURE) -> CommandError:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        shown = "\n  ".join(lines[-_LOG_LINES:]) or "(nothing in its log)"
        return CommandError(
            f"Prometheus {how}; the last lines of its log:\n  {shown}\n",
            f"the whole of it: {self._log}",
            status,
        )
