import contextlib
import errno
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.sidecar import state
from bridge.sidecar.state import State, StateError
from tests.support.processes import wait_until

ROOT = os.getuid() == 0


@pytest.fixture
def open_state(tmp_path):
    opened = []

    def start(directory=tmp_path / "state", identity=None):
        opened.append(State.open(directory, identity))
        return opened[-1]

    yield start
    for one in opened:
        with contextlib.suppress(OSError):
            one.close()


def test_a_new_directory(open_state, tmp_path):
    directory = tmp_path / "var" / "lib" / "state"
    one = open_state(directory)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert re.fullmatch(r"[!-~]{1,48}-[0-9a-f]{8}", one.identity)
    assert (directory / "identity").read_text() == f"{one.identity}\n"
    assert (one.epoch, one.error, len(one.instance)) == (0, None, 16)


def test_what_it_keeps_and_what_it_does_not(open_state):
    one = open_state()
    one.saw(41)
    one.saw(7)
    one.close()
    again = open_state()
    assert (again.identity, again.epoch) == (one.identity, 41)
    assert again.instance != one.instance


def test_an_identity_that_is_given_is_not_kept(open_state, tmp_path):
    assert open_state(identity="given").identity == "given"
    assert not (tmp_path / "state" / "identity").exists()


@pytest.mark.parametrize("name", ["", "ünï cöde", "h" * 300])
def test_a_host_s_name_of_any_kind(open_state, monkeypatch, name):
    monkeypatch.setattr(state.socket, "gethostname", lambda: name)
    assert re.fullmatch(r"[!-~]{9,64}", open_state().identity)


def test_one_at_a_time(open_state, tmp_path):
    one = open_state()
    with pytest.raises(StateError, match=r"is another sidecar's, which runs: .*state_dir"):
        open_state()
    open_state(tmp_path / "other")
    one.close()
    open_state()


def test_the_lock_is_not_inherited(open_state):
    one = open_state()
    with subprocess.Popen(["sleep", "60"], close_fds=False) as child:
        one.close()
        open_state()
        child.kill()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("epoch", b""),
        ("epoch", b"\0\0\0\0"),
        ("epoch", b"-1\n"),
        ("epoch", b"7.0\n"),
        ("epoch", b"1\n2\n"),
        ("epoch", b"9" * 15),
        ("epoch", b"9" * 5000),
        ("epoch", "\u0667".encode()),
        ("identity", b""),
        ("identity", b"two words\n"),
        ("identity", b"x" * 65),
        ("identity", b"\xff\xfe"),
        ("identity", "ünï".encode()),
    ],
)
def test_a_file_that_holds_something_else(open_state, tmp_path, name, content):
    directory = tmp_path / "state"
    open_state().close()
    (directory / name).write_bytes(content)
    with pytest.raises(StateError, match=f"{directory}/{name} holds .*: remove it"):
        open_state()
    # It says what to do, and that helps; the lock is nobody's.
    (directory / name).unlink()
    open_state()


def test_a_file_in_its_place(open_state, tmp_path):
    (tmp_path / "state").touch()
    with pytest.raises(StateError, match=r"cannot be used: .*state_dir is to be a directory"):
        open_state()
    with pytest.raises(StateError, match="cannot be used: Not a directory"):
        open_state(tmp_path / "state" / "below")


def test_a_file_system_without_locks(open_state, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    monkeypatch.setattr(state.fcntl, "flock", flock)
    with pytest.raises(StateError, match="cannot be used: No locks available"):
        open_state()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_no_room(open_state, tmp_path):
    """That of a file, which any user can have."""
    one = open_state()
    one.saw(1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        one.saw(2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert "cannot be used: File too large" in one.error
    # It goes on with what it knows, and what was kept is whole.
    assert one.epoch == 2
    assert (tmp_path / "state" / "epoch").read_text() == "1\n"
    one.saw(2)
    assert one.error is None
    assert (tmp_path / "state" / "epoch").read_text() == "2\n"


@pytest.fixture
def volume(tmp_path):
    """A volume of 64 KiB."""
    if not ROOT:
        pytest.skip("only root can mount")
    place = tmp_path / "volume"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", "size=64k", "pyunit", place]
    if subprocess.run(["mount", *options], check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(place):
    with contextlib.suppress(OSError), (place / "full").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def test_a_full_volume(open_state, volume):
    one = open_state(volume / "state")
    one.saw(5)
    fill(volume)
    one.saw(6)
    assert "No space left on device" in one.error
    assert (volume / "state" / "epoch").read_text() == "5\n"
    one.close()
    # The next one knows from its start, and runs all the same.
    again = open_state(volume / "state")
    assert again.epoch == 5
    assert "No space left on device; sidecar.state_dir is to be" in again.error
    (volume / "full").unlink()
    again.saw(7)
    assert again.error is None
    assert (volume / "state" / "epoch").read_text() == "7\n"


def test_a_full_volume_without_a_name(open_state, volume):
    fill(volume)
    (volume / "state").mkdir()
    with pytest.raises(StateError, match="No space left on device"):
        open_state(volume / "state")


_AS_NOBODY = """
import os, sys
from pathlib import Path
os.setgroups([]); os.setgid(65534); os.setuid(65534)
from bridge.sidecar.state import State, StateError
try:
    print(State.open(Path(sys.argv[1]), None).error)
except StateError as error:
    print(error)
"""


@pytest.mark.skipif(not ROOT, reason="only root can be another user")
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_another_user_s_directory(open_state, tmp_path, mode):
    directory = tmp_path / "state"
    open_state().close()
    for one in (tmp_path, *tmp_path.parents):
        if str(one).startswith("/tmp/"):
            one.chmod(0o755)
    directory.chmod(mode)
    done = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, directory],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    remedy = "sidecar.state_dir is to be a directory with room, which this user can write to"
    assert done.stdout == f"{directory} cannot be used: Permission denied; {remedy}\n", done.stderr


_WRITES = """
import sys
from pathlib import Path
from bridge.sidecar.state import State
state = State.open(Path(sys.argv[1]), None)
print(state.identity, flush=True)
while True:
    state.saw(state.epoch + 1)
"""


def test_killed_while_it_writes(open_state, tmp_path):
    """Whole or not at all, and never a step back."""
    directory = tmp_path / "state"
    identity, highest = None, 0
    for _ in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITES, directory],
            cwd=Path(__file__).parents[3],
            stdout=subprocess.PIPE,
            text=True,
        ) as writer:
            assert writer.stdout is not None
            name = writer.stdout.readline()
            wait_until(lambda least=highest + 4: epoch(directory) >= least, 10)
            writer.kill()
        assert identity in {None, name}
        identity = name
        kept = open_state()
        assert f"{kept.identity}\n" == name
        assert kept.epoch > highest
        highest = kept.epoch
        kept.close()


def epoch(directory):
    try:
        return int((directory / "epoch").read_text())
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize("step", range(1, 12))
def test_killed_at_each_system_call_that_writes(tmp_path, step):
    """Ended at the n-th of them, by an end that runs no Python."""
    script = f"""
import os, sys
from pathlib import Path
from bridge.sidecar.state import State
count = 0
def ends(event, arguments):
    global count
    if event in ("open", "os.rename", "os.link", "os.remove") and "state" in str(arguments[0]):
        count += 1
        if count == {step}:
            os._exit(9)
sys.addaudithook(ends)
state = State.open(Path(sys.argv[1]), None)
state.saw(8)
print("done")
"""
    directory = tmp_path / "state"
    shutil.rmtree(directory, ignore_errors=True)
    before = State.open(directory, None)
    before.saw(7)
    before.close()
    done = subprocess.run(
        [sys.executable, "-c", script, directory],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode in {0, 9}, done.stderr
    after = State.open(directory, None)
    assert after.identity == before.identity
    assert after.epoch in {7, 8}
    assert (after.epoch == 8) >= ("done" in done.stdout)
    after.close()
