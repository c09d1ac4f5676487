"""A private node run by the system's own ejabberdctl, as the system runs it: as user ejabberd."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bridge.attach import node_process
from bridge.attach.ejabberdctl import Ejabberdctl
from bridge.cli.errors import CommandError

if TYPE_CHECKING:
    from bridge.attach.node_process import NodeProcess

EJABBERDCTL = "/usr/sbin/ejabberdctl"
BOOT_TIMEOUT = 60.0


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@dataclass
class SystemNode:
    """Its directories, ports, cookie and name are its own; only the programs are the system's."""

    base: Path
    name: str
    mask_home: bool = False

    @property
    def configuration(self) -> Path:
        return self.base / "etc/ejabberd.yml"

    @property
    def modules(self) -> Path:
        return self.base / "modules"

    @property
    def ejabberdctl(self) -> str:
        arguments = ("--config-dir", "etc", "--spool", "spool", "--logs", "logs")
        return " ".join(
            (
                EJABBERDCTL,
                *(
                    str(self.base / word) if not word.startswith("-") else word
                    for word in arguments
                ),
            )
        )

    @property
    def ctl(self) -> Ejabberdctl:
        return Ejabberdctl.find(self.ejabberdctl)

    @property
    def process(self) -> NodeProcess:
        return node_process.find(self.name)

    @property
    def log(self) -> str:
        return (self.base / "logs/ejabberd.log").read_text(errors="replace")

    def write_configuration(self, extra: str = "") -> None:
        self.configuration.write_text(
            "hosts: [localhost]\n"
            "loglevel: info\n"
            "auth_method: internal\n"
            "listen: []\n"
            "modules:\n"
            "  mod_ping: {}\n" + extra,
            encoding="utf-8",
        )

    def prepare(self) -> None:
        for name in ("etc", "spool", "logs", "modules.d"):
            (self.base / name).mkdir()
        self.write_configuration()
        (self.base / "etc/inetrc").touch()
        (self.base / "etc/ejabberdctl.cfg").write_text(
            f"ERL_DIST_PORT={free_port()}\n"
            "INET_DIST_INTERFACE=127.0.0.1\n"
            f"EJABBERD_PID_PATH={self.base}/ejabberd.pid\n"
            f"CONTRIB_MODULES_PATH={self.modules}\n"
            f"CONTRIB_MODULES_CONF_DIR={self.base}/modules.d\n"
            f"ERLANG_NODE={self.name}\n"
            f'ERL_OPTIONS="-setcookie {self.base.name}"\n',
            encoding="utf-8",
        )
        user = pwd.getpwnam("ejabberd")
        for path in (self.base, *self.base.rglob("*")):
            os.chown(path, user.pw_uid, user.pw_gid)

    def start(self) -> None:
        command: tuple[str, ...] = (*self.ctl.command, "start")
        if self.mask_home:  # What systemd's ProtectHome does.
            script = 'mount -t tmpfs -o mode=0 none /home && exec "$@"'
            command = ("unshare", "--mount", "sh", "-c", script, "sh", *command)
        subprocess.run(command, check=True, timeout=BOOT_TIMEOUT, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + BOOT_TIMEOUT
        while not self.runs():
            assert time.monotonic() < deadline, f"the node did not boot:\n{self.log[-3000:]}"
            time.sleep(0.2)

    def runs(self) -> bool:
        try:
            return bool(self.ctl.node())
        except CommandError:
            return False

    def stop(self) -> None:
        pid = self.process.pid
        self.ctl.run("stop")
        deadline = time.monotonic() + BOOT_TIMEOUT
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGKILL)
            pytest.fail("the node did not stop")

    def restart(self) -> None:
        self.stop()
        self.start()

    def eval(self, expression: str) -> str:
        """Evaluates an Erlang expression on the node; the result as `~0p` prints it."""
        port = (self.base / "etc/ejabberdctl.cfg").read_text().split("=", 1)[1].split()[0]
        call = (
            '{ok, Tokens, _} = erl_scan:string(os:getenv("EXPRESSION")), '
            "{ok, Parsed} = erl_parse:parse_exprs(Tokens), "
            f"{{value, V, _}} = rpc:call('{self.name}', erl_eval, exprs, [Parsed, []], 10000), "
            'io:format("~0p", [V]), halt().'
        )
        done = subprocess.run(
            (
                *("erl", "-sname", f"eval{os.getpid()}@localhost", "-setcookie", self.base.name),
                *("-hidden", "-noinput", "-dist_listen", "false", "-start_epmd", "false"),
                *("-erl_epmd_port", port, "-eval", call),
            ),
            env={**os.environ, "EXPRESSION": expression + "."},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return done.stdout


def _unavailable() -> str | None:
    if not Path(EJABBERDCTL).exists():
        if os.environ.get("CI") == "true":
            pytest.fail("ejabberd is not installed")
        return "ejabberd is not installed as a package"
    if os.geteuid() != 0:
        return "needs root: the system's ejabberdctl changes to user ejabberd"
    return None


@pytest.fixture(scope="module")
def make_system_node():
    """Makes private system nodes and stops what runs of them at the end."""
    if (why := _unavailable()) is not None:
        pytest.skip(why)
    made: list[SystemNode] = []

    def make(*, mask_home: bool = False) -> SystemNode:
        base = Path(tempfile.mkdtemp(prefix="megaphone-system-"))
        base.chmod(0o755)
        node = SystemNode(base, f"{base.name}@localhost", mask_home)
        made.append(node)
        node.prepare()
        return node

    yield make
    for node in made:
        try:
            if node.runs():
                node.stop()
        finally:
            shutil.rmtree(node.base)


@pytest.fixture(scope="module")
def system_node(make_system_node):
    """A running private node; tests leave it as they found it."""
    node = make_system_node()
    node.start()
    return node


MODULE_SOURCE = """
-module(mod_megaphone).
-behaviour(gen_mod).
-export([start/2, stop/1, reload/3, depends/2, mod_options/1, mod_opt_type/1, mod_doc/0]).
-export([status/0]).
-include("ejabberd_commands.hrl").

commands() ->
    [#ejabberd_commands{name = megaphone_status, tags = [megaphone], desc = "Status",
                        module = ?MODULE, function = status, args = [],
                        result = {status, string}}].

start(_Host, Options) ->
    persistent_term:put(?MODULE, gen_mod:get_opt(state, Options)),
    ejabberd_commands:register_commands(commands()).

stop(_Host) ->
    ejabberd_commands:unregister_commands(commands()),
    persistent_term:erase(?MODULE),
    code:purge(mod_megaphone_part),
    code:delete(mod_megaphone_part).

reload(_Host, _New, _Old) -> ok.
depends(_Host, _Options) -> [].
mod_opt_type(python) -> econf:binary();
mod_opt_type(workers) -> econf:pos_int();
mod_opt_type(state) -> econf:binary().
mod_options(_Host) ->
    [{python, <<"python3">>}, {workers, 1}, {state, <<"connected">>}].
mod_doc() -> #{}.

status() ->
    "{\\"node\\": {\\"version\\": \\"VERSION\\"}, \\"port\\": {\\"state\\": \\""
    ++ binary_to_list(persistent_term:get(?MODULE))
    ++ "\\", \\"reason\\": \\"exit status \\\\u0031\\"}, "
    ++ "\\"part\\": " ++ integer_to_list(mod_megaphone_part:version()) ++ ", "
    ++ "\\"bridge\\": {\\"workers\\": [{\\"state\\": \\"idle\\"}]}}".
"""


@pytest.fixture
def stand_in(tmp_path):
    """Writes a small package of mod_megaphone's name and commands, for what ext_mod does to it."""

    def write(version: str, part: int, *, broken: bool = False) -> Path:
        root = tmp_path / f"package-{version}-{part}{'-broken' * broken}"
        (root / "src").mkdir(parents=True)
        (root / "conf").mkdir()
        (root / "ebin").mkdir()
        (root / "ebin/stale.beam").write_bytes(b"not to be installed")
        (root / "mod_megaphone.spec").write_text(
            "".join(f'{key}: "stand-in"\n' for key in ("author", "category", "summary", "home"))
            + 'url: "none"\n'
        )
        (root / "conf/mod_megaphone.yml").write_text(
            "# Options of Megaphone.\nmodules:\n  mod_megaphone: {}\n"
        )
        (root / "src/mod_megaphone.erl").write_text(MODULE_SOURCE.replace("VERSION", version))
        (root / "src/mod_megaphone_part.erl").write_text(
            f"-module(mod_megaphone_part).\n-export([version/0]).\nversion() -> {part}.\n"
            + "broken here.\n" * broken
        )
        return root

    return write


@pytest.fixture(scope="session")
def make_environment():
    """Makes a virtual environment whose packages are those of this one; gives its Python."""

    def make_environment(directory: Path) -> Path:
        venv.create(directory, with_pip=False, symlinks=True)
        packages = next(directory.glob("lib/python*/site-packages"))
        paths = [path for path in sys.path if path.endswith("site-packages")]
        root = Path(node_process.__file__).parents[2]
        (packages / "megaphone.pth").write_text("\n".join([*paths, str(root)]))
        return directory / "bin/python"

    return make_environment
