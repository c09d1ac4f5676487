"""Sidecars as processes of their own, beside a real node."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.e2e import support


@contextlib.contextmanager
def starting(place: Path, **common: str) -> Iterator[Callable[..., "Sidecar"]]:
    """`start(name, **environment)` starts sidecars below a directory; none is left at the end."""
    started = []

    def start(name: str, **environment: str) -> Sidecar:
        one = Sidecar(place / name, {**common, **environment})
        started.append(one)
        return one.start()

    try:
        yield start
    finally:
        for one in started:
            if one.process is not None and one.process.poll() is None:
                one.stop()


def write_secret(file: Path) -> Path:
    file.write_text(secrets.token_hex(32) + "\n")
    file.chmod(0o644)
    return file


class Sidecar:
    """`megaphone sidecar` with a state directory and a control socket of its own."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.control = directory / "control.sock"
        self.log = directory / "sidecar.log"
        self.environment = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "MEGAPHONE_HTTP__PORT": "0",
            "MEGAPHONE_WORKERS__COUNT": "1",
            "MEGAPHONE_SIDECAR__STATE_DIR": str(directory / "state"),
            "MEGAPHONE_SIDECAR__CONTROL_SOCKET": str(self.control),
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Sidecar":
        assert self.process is None or self.process.poll() is not None
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bridge.cli.main", "sidecar"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        return self.process.wait(10)

    def cli(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "bridge.cli.main", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def status(self) -> dict:
        done = self.cli("status", "--json")
        document = json.loads(done.stdout) if done.stdout else {}
        return {} if "error" in document else document

    def condition(self) -> str | None:
        return ((self.status().get("bridge") or {}).get("sidecar") or {}).get("state")

    def logged(self, text: str) -> bool:
        return text in self.log.read_text()

    async def until_logged(self, text: str, timeout: float = 20) -> None:
        await support.until(lambda: self.logged(text), timeout)
