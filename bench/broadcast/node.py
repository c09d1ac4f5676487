"""The node that is measured: a private ejabberd, Megaphone attached, simulated sessions."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.node import BenchNode
from bridge.attach import health
from bridge.embedded_node import NodeSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: Seconds for one round, and for opening the sessions.
ROUND_TIMEOUT: Final = 300.0
OPEN_TIMEOUT: Final = 600.0

#: Seconds until a sidecar is connected.
START_TIMEOUT: Final = 30.0

#: The benchmark's Erlang module: it runs inside the node.
MODULE: Final = Path(__file__).with_name("megaphone_bench.erl")


class MeasuredNode(BenchNode):
    """A running node with sessions; a context manager, nothing of it is left afterwards."""

    def __init__(
        self,
        host: str = "localhost",
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        *,
        sidecar: bool = False,
    ) -> None:
        """Describes it.

        Args:
            host: Its virtual host.
            options: Options of mod_megaphone, KEY=VALUE each.
            environment: Environment variables of the node, and so of the port program.
            sidecar: Whether Megaphone comes to a Unix socket by itself.
        """
        self._sidecar = sidecar
        self._program: subprocess.Popen[bytes] | None = None
        self._host = host
        self._options = options
        self._environment = environment or {}
        super().__init__()

    def settings(self) -> NodeSettings:
        """See `BenchNode.settings`."""
        return NodeSettings(
            hosts=(self._host,),
            options={"loglevel": "warning"},
            erl_options=("+P", "2000000"),
            environment=self._environment,
        )

    def prepare(self) -> None:
        """See `BenchNode.prepare`."""
        if self._sidecar:
            self._start_sidecar()
        else:
            self._attach(self._options)
        self.load(MODULE)

    def prepare_sessions(self, count: int) -> None:
        """Makes room for so many sessions, and opens none."""
        self.expect("ok", self.node.eval(f'megaphone_bench:prepare({count}, <<"{self._host}">>)'))

    def open_sessions(self, count: int, progress: Callable[[int], object]) -> float:
        """Opens sessions until there are so many; there must be room for them.

        Args:
            count: How many.
            progress: Told now and then how many there are.

        Returns:
            Seconds that it took.
        """
        begin = time.monotonic()
        self.expect("ok", self.node.eval(f"megaphone_bench:open({count})"))
        while (opened := int(self.node.eval("megaphone_bench:opened()", timeout=60))) < count:
            progress(opened)
            if time.monotonic() - begin > OPEN_TIMEOUT:
                raise TimeoutError(f"{opened} of {count} sessions after {OPEN_TIMEOUT:.0f} s")
            time.sleep(0.25)
        progress(opened)
        return time.monotonic() - begin

    def broadcast(self, way: str) -> dict[str, Any]:
        """Sends to all sessions once.

        Args:
            way: `megaphone` or `mod_announce`.

        Returns:
            What `megaphone_bench:round/2` says, times in seconds since it was asked for; and
            `cpu`, the processor time of node, port program and workers together, in seconds.
        """
        pids = [self.node.pid, *self._programs().values()]
        before = sum(map(cpu_seconds, pids))
        answer = self.node.eval(
            f"megaphone_bench:round({way}, {int(ROUND_TIMEOUT * 1000)})",
            timeout=ROUND_TIMEOUT + 60,
        )
        document: dict[str, Any] = json.loads(base64.b64decode(answer.strip('"')))
        document["cpu"] = sum(map(cpu_seconds, pids)) - before
        return document

    def status(self) -> dict[str, Any]:
        """What `megaphone_status` says."""
        document: dict[str, Any] = json.loads(self.node.ctl("megaphone_status").stdout)
        return document

    def resident_bytes(self) -> dict[str, int]:
        """RSS of the port program and of each worker, by what it is."""
        return {name: _resident_bytes(pid) for name, pid in self._programs().items()}

    def node_resident_bytes(self) -> int:
        """RSS of the Erlang VM."""
        return _resident_bytes(self.node.pid)

    def _programs(self) -> dict[str, int]:
        status = self.status()
        pids = {"port program": status["port"]["os_pid"]}
        for number, worker in enumerate(status["bridge"]["workers"]):
            pids[f"worker {number}"] = worker["pid"]
        return pids

    def _start_sidecar(self) -> None:
        secret, socket = self.home / "secret", self.home / "node.sock"
        secret.write_text(secrets.token_hex(32))
        option = f"sidecar={{socket: {socket}, secret_file: {secret}}}"
        self._attach([*self._options, option])
        settings = {
            "MEGAPHONE_HTTP__PORT": "0",
            "MEGAPHONE_SIDECAR__SOCKET": str(socket),
            "MEGAPHONE_SIDECAR__SECRET_FILE": str(secret),
            "MEGAPHONE_SIDECAR__STATE_DIR": str(self.home / "state"),
            "MEGAPHONE_SIDECAR__CONTROL_SOCKET": str(self.home / "control.sock"),
        }
        command = [sys.executable, "-m", "bridge.cli.main", "sidecar"]
        self._program = subprocess.Popen(command, env={**os.environ, **settings})
        deadline = time.monotonic() + START_TIMEOUT
        while not health.judge(self.status()).connected:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no sidecar within {START_TIMEOUT:.0f} s")
            time.sleep(0.25)

    def _end(self) -> None:
        try:
            if self._program is not None:
                self._program.terminate()
                self._program.wait(30)
        finally:
            super()._end()

    def _attach(self, options: Sequence[str]) -> None:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "bridge.cli.main", "attach"),
                *("--ejabberdctl", str(self.node.ejabberdctl), "--python", sys.executable),
                *(word for option in options for word in ("--option", option)),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode != 0:
            raise RuntimeError(f"megaphone attach failed: {done.stderr or done.stdout}")


def _resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


def cpu_seconds(pid: int) -> float:
    """Processor time of a process, in user and system mode."""
    # proc(5): utime and stime are the 14th and 15th field; the second may hold anything in
    # parentheses.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
