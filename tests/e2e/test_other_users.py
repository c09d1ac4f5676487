"""Another user of the machine cannot broadcast: every way in is closed to them."""

import asyncio
import os
import re
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.e2e.support import ENVIRONMENT, attach, connected, get, start_broadcast, status, until
from tests.support.processes import descendants
from tests.support.tools import require_ejabberd, require_tool

REQUEST = '{"template": "for {{ user }}", "to": "online"}'
#: What another Erlang node would call to broadcast.
BROADCAST = f"megaphone_commands, broadcast, [<<{','.join(map(str, REQUEST.encode()))}>>]"

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
    pytest.mark.usefixtures("nothing_is_sent"),
]


@pytest.fixture(scope="module")
def node(start_session_node):
    node = start_session_node(environment=ENVIRONMENT)
    attach(node)
    return node


@pytest.fixture
def home():
    """A directory that everybody can use, as /tmp: pytest's own is root's."""
    directory = Path(tempfile.mkdtemp(prefix="megaphone-nobody-"))
    directory.chmod(0o777)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def nobody(home):
    """Runs a command as another user."""
    setpriv = str(require_tool("setpriv"))

    def run(*command, **environment):
        return subprocess.run(
            (setpriv, "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", *command),
            cwd="/",
            env={"PATH": os.environ["PATH"], "HOME": str(home), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )

    assert run("id", "-un").stdout == "nobody\n"
    return run


@pytest.fixture
async def nothing_is_sent(node, xmpp):
    """Somebody is online, gets nothing meanwhile, and could have."""
    await until(lambda: connected(node))
    alice = await xmpp(node, "alice")
    before = (await asyncio.to_thread(status, node))["broadcasts"]
    yield
    assert (await asyncio.to_thread(status, node))["broadcasts"] == before
    await alice.ping()
    assert alice.messages == []
    await asyncio.to_thread(start_broadcast, node, "for {{ user }}")
    await alice.wait_for(1)
    assert alice.bodies == ["for alice"]


def test_ejabberdctl(node, nobody, home):
    asked = nobody(str(node.ejabberdctl), "megaphone_broadcast", REQUEST)
    assert asked.returncode != 0
    # Nor a copy of it, wherever it comes from; it is the user that it does not work for.
    copy = home / "ejabberdctl"
    shutil.copy(node.ejabberdctl, copy)
    copy.chmod(0o755)
    assert nobody(str(copy), "megaphone_broadcast", REQUEST).returncode != 0
    asked = subprocess.run((copy, "megaphone_status"), capture_output=True, timeout=60, check=False)
    assert (asked.returncode, b'"connected"' in asked.stdout) == (0, True)
    # Nor one that goes on where that one stops, with a cookie of their own.
    text = re.sub(r"^HOME=.*$", f"HOME={home}", copy.read_text(), flags=re.MULTILINE)
    copy.write_text(text.replace("|| exit 6", "2>/dev/null"))
    assert nobody("sh", "-c", 'echo guessed >"$HOME/.erlang.cookie"').returncode == 0
    assert nobody("chmod", "400", str(home / ".erlang.cookie")).returncode == 0
    asked = nobody(str(copy), "megaphone_broadcast", REQUEST)
    assert asked.returncode == 3, asked
    # Nor the installed one.
    installed = shutil.which("ejabberdctl", path=f"{os.environ['PATH']}:/usr/sbin")
    asked = nobody(installed, "--node", node.name, "megaphone_broadcast", REQUEST)
    assert asked.returncode != 0


def test_an_erlang_node_without_the_cookie(node, nobody):
    found = require_ejabberd()
    address = f"127.0.0.1:{node.distribution_port}"
    (file,) = node.directory.rglob(".erlang.cookie")
    cookie = file.read_text()
    # No cookie, and one of their own; with the node's it would be answered.
    for known, answered in (((), False), (("-c", "guessed"), False), (("-c", cookie), True)):
        asked = nobody(
            *(str(found.erl_call), "-address", address, "-timeout", "5", *known),
            *("-a", "erlang node"),
        )
        assert (asked.returncode == 0, node.name in asked.stdout) == (answered, answered)
    asked = nobody(
        *(str(found.erl), "-name", "nobody@127.0.0.1", "-setcookie", "guessed", "-hidden"),
        *("-noinput", "-start_epmd", "false", "-dist_listen", "false"),
        *("-erl_epmd_port", str(node.distribution_port)),
        *("-kernel", "inet_dist_use_interface", "{127,0,0,1}", "-eval"),
        f"try erpc:call('{node.name}', {BROADCAST}, 10000) of _ -> io:format(\"sent~n\")"
        ' catch C:R -> io:format("~w~n", [{C, R}]) end, halt().',
    )
    assert asked.stdout.strip() == "{error,{erpc,noconnection}}", asked
    # The cookie is where only the node's user reads it, and nowhere in what others see.
    assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0
    assert stat.S_IMODE(node.directory.stat().st_mode) == 0o700
    assert nobody("cat", str(file)).returncode != 0
    pids = [node.pid, *descendants(node.pid)]
    seen = nobody("cat", *(f"/proc/{pid}/cmdline" for pid in pids)).stdout
    assert "beam" in seen
    assert "bridge.port_program" in seen
    assert cookie not in seen
    assert nobody("cat", f"/proc/{node.pid}/environ").returncode != 0


HTTP = """
import sys, urllib.error, urllib.request
url, method, body = sys.argv[1:]
request = urllib.request.Request(url, body.encode() or None, method=method)
request.add_header("Content-Type", "application/json")
try:
    with urllib.request.urlopen(request, timeout=10) as response:
        print(response.status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


def test_http_only_reads(node, nobody):
    url = status(node)["bridge"]["http"]
    python = shutil.which("python3", path="/usr/bin:/bin") or "python3"
    paths = ["/v1/status", "/v1/broadcast", "/v1/broadcasts", "/readyz", "/"]
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for path in paths if method == "POST" else paths[:2]:
            asked = nobody(python, "-I", "-c", HTTP, url + path, method, REQUEST)
            assert asked.stdout in {"405\n", "404\n"}, (method, path, asked)
    # What reads is what it says; nothing of it is a broadcast's.
    assert get(f"{url}/v1/status")[0] == 200
    assert get(f"{url}/v1/broadcast")[0] == 404


def test_nothing_else_listens(node):
    found = status(node)
    program = found["port"]["os_pid"]
    http = int(found["bridge"]["http"].rpartition(":")[2])
    inodes = {inode for pid in (program, *descendants(program)) for inode in sockets(pid)}
    tcp = {port for inode, port in listening("tcp", "tcp6") if inode in inodes}
    assert tcp == {http}
    # A Unix socket that accepts connections (__SO_ACCEPTCON, proc(5)): there is none.
    unix = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    assert not [line for line in unix if line[6] in inodes and int(line[3], 16) & 0x10000]


def sockets(pid):
    """The inodes of a process's sockets."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        target = str(link.readlink())
        if target.startswith("socket:["):
            yield target[8:-1]


def listening(*tables):
    """Inode and port of each socket that listens."""
    for table in tables:
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                yield fields[9], int(fields[1].rpartition(":")[2], 16)
