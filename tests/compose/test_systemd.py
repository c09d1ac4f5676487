"""The sidecar's unit, and the port program in Debian's ejabberd.service, under a real systemd."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.images import Images
from tests.compose.stack import docker

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/systemd.md").read_text()


class Machine:
    """A container whose first process is systemd."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, command: str, timeout: float = 120) -> str:
        return docker("exec", self.name, "sh", "-ec", command, timeout=timeout)

    def write(self, file: str, text: str) -> None:
        subprocess.run(
            [
                "docker",
                "exec",
                "-i",
                self.name,
                "sh",
                "-c",
                f"mkdir -p $(dirname {file}); cat >{file}",
            ],
            input=text,
            text=True,
            timeout=30,
            check=True,
        )

    def until(self, command: str, wanted: str, timeout: float = 60) -> str:
        deadline = time.monotonic() + timeout
        while True:
            done = subprocess.run(
                ["docker", "exec", self.name, "sh", "-c", command],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            if re.search(wanted, done.stdout):
                return done.stdout
            assert time.monotonic() < deadline, f"{command}: {done.stdout[-3000:]}{done.stderr}"
            time.sleep(0.3)

    def property(self, name: str) -> str:
        return self.run(f"systemctl show megaphone -p {name} --value").strip()

    def status(self) -> dict:
        return json.loads(self.run(f"{CONFIGURED} megaphone status --json || true"))


CONFIGURED = "MEGAPHONE_CONFIG=/etc/megaphone/megaphone.toml"


def shown(before: str) -> str:
    """The indented block of the page that comes after some words."""
    block = PAGE.split(before, 1)[1].lstrip("\n")
    lines = []
    for line in block.splitlines():
        if line.strip() and not line.startswith("       "):
            break
        lines.append(line.strip())
    return "\n".join(lines).strip() + "\n"


@pytest.fixture(scope="module")
def machine(images: Images) -> Iterator[Machine]:
    """Installed as docs/systemd.md says."""
    image = images.build(
        images.name("systemd"), "tests/compose/systemd.Dockerfile", MEGAPHONE=images.megaphone
    )
    name = f"{images.prefix}-systemd"
    # What systemd needs to be the first process, and to give its services namespaces of their own;
    # SYS_PTRACE is what root has on any machine, and `attach` looks at the node's process.
    docker(
        *("run", "-d", "--name", name, "--cap-add", "SYS_ADMIN", "--cap-add", "SYS_PTRACE"),
        *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
        *("--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp", "--cgroupns", "host"),
        *("-v", "/sys/fs/cgroup:/sys/fs/cgroup:rw", image),
    )
    found = Machine(name)
    try:
        found.until("systemctl is-system-running", "running|degraded")
        found.until("systemctl is-active ejabberd", "^active", 60)
        found.write(
            "/etc/systemd/system/ejabberd.service.d/megaphone.conf",
            shown("`/etc/systemd/system/ejabberd.service.d/megaphone.conf`:"),
        )
        found.run(
            shown(
                "which ejabberd's group may read, and with it the sidecar, which is in that group:"
            )
        )
        found.write(
            "/etc/megaphone/megaphone.toml",
            shown("The sidecar's configuration, `/etc/megaphone/megaphone.toml`:"),
        )
        commands = shown("4. Both ends:")
        assert "cp systemd/megaphone.service" in commands
        unit = (ROOT / "systemd/megaphone.service").read_text()
        found.write("/etc/systemd/system/megaphone.service", unit)
        found.run("".join(line for line in commands.splitlines(True) if not line.startswith("cp ")))
        yield found
    finally:
        docker("rm", "-f", "-v", name)


def connected(machine: Machine) -> dict:
    machine.until(f"{CONFIGURED} megaphone status --json", '"state": "active"')
    return machine.status()


def test_the_unit_is_in_order(machine: Machine) -> None:
    assert machine.run("systemd-analyze verify /etc/systemd/system/megaphone.service 2>&1") == ""
    told = machine.run("systemd-analyze security megaphone --no-pager 2>&1")
    exposure = float(re.search(r"Overall exposure level for megaphone.service: ([\d.]+)", told)[1])
    assert exposure < 2


def test_it_starts_connects_and_serves(machine: Machine) -> None:
    found = connected(machine)
    assert found["port"]["transport"] == "unix"
    assert machine.property("ActiveState") == "active"
    assert re.fullmatch(r"connected to ejabberd@\S+, epoch \d+", machine.property("StatusText"))
    machine.until("megaphone ready", "^ready", 30)
    accepted = machine.run(
        f"{CONFIGURED} megaphone broadcast 'Hello {{{{ user }}}}' --watch --json"
    )
    assert json.loads(accepted)["state"] == "done"
    assert machine.run(
        "stat -c %a /run/megaphone/node.sock /run/megaphone-sidecar/control.sock"
    ) == ("660\n600")


def test_the_watchdog_finds_one_that_hangs(machine: Machine) -> None:
    connected(machine)
    machine.write(
        "/run/systemd/system/megaphone.service.d/quick.conf", "[Service]\nWatchdogSec=2\n"
    )
    machine.run("systemctl daemon-reload; systemctl restart megaphone")
    before = connected(machine)["port"]["os_pid"]
    restarts = int(machine.property("NRestarts"))
    machine.run(f"kill -STOP {before}")
    machine.until("systemctl show megaphone -p NRestarts --value", rf"^{restarts + 1}$", 60)
    after = connected(machine)
    assert after["port"]["os_pid"] != before
    assert "Watchdog timeout" in machine.run("journalctl -u megaphone --no-pager")
    # Nothing of the first life is left, its workers neither.
    # Bracketed, so that the shell that looks does not find itself.
    pids = machine.run("pgrep -f '[b]ridge[.]'").split()
    workers = [worker["pid"] for worker in after["bridge"]["workers"]]
    assert {int(pid) for pid in pids} == {after["port"]["os_pid"], *workers}
    machine.run("rm -r /run/systemd/system/megaphone.service.d; systemctl daemon-reload")


def test_it_outlives_ejabberd_s_restart_and_stops_in_time(machine: Machine) -> None:
    before = connected(machine)
    machine.run("systemctl restart ejabberd")
    machine.until(f"{CONFIGURED} megaphone status --json", '"state": "active"')
    after = connected(machine)
    assert after["port"]["os_pid"] == before["port"]["os_pid"]
    assert after["sidecars"]["epoch"] > before["sidecars"]["epoch"]
    begun = time.monotonic()
    machine.run("systemctl stop megaphone")
    assert time.monotonic() - begun < 10
    assert machine.property("Result") == "success"


def test_the_port_program_in_ejabberd_s_own_unit(machine: Machine) -> None:
    """Without the option; with ejabberd's hardening, and never in its name."""
    machine.run("systemctl stop megaphone; megaphone attach --option sidecar=undefined")
    found = json.loads(machine.run("megaphone status --json"))
    assert (found["port"]["state"], found["port"]["transport"]) == ("connected", "port")
    program = found["port"]["os_pid"]
    group = machine.run(f"cat /proc/{program}/cgroup")
    assert "ejabberd.service" in group
    environment = machine.run(f"tr '\\0' '\\n' </proc/{program}/environ")
    assert "PATH=" in environment
    assert not re.search(r"^(NOTIFY_SOCKET|WATCHDOG_)", environment, re.MULTILINE)
    # ejabberd feeds its watchdog itself.
    assert machine.run("systemctl show ejabberd -p ActiveState --value") == "active"
    refused = machine.run(
        "cp -r /opt/megaphone /root/megaphone;"
        " megaphone attach --python /root/megaphone/bin/python3 2>&1 || echo status $?"
    )
    assert "/root/megaphone" in refused
    assert refused.endswith("status 6")
    machine.run("megaphone detach")
