"""A suite's image and the run of the tests in it, by Docker's command line."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT: Final = Path(__file__).parents[2]

#: What images and containers of this checkout are named by: another's are not these.
CHECKOUT: Final = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]

#: Seconds for one suite's tests; they take a quarter of it on two cores.
TIMEOUT: Final = 3600

#: Where the tests' outcome is inside the container.
JUNIT: Final = "/megaphone/junit.xml"

#: What a container needs beyond Docker's defaults.
OPTIONS: Final = (
    # Somebody has to reap what tests leave orphaned on purpose and then wait to see gone.
    "--init",
    # `megaphone attach` looks into /proc/PID of ejabberd's user: root of a machine may, root of a
    # container may not.
    "--cap-add=SYS_PTRACE",
    # Each node's directory is made there, and gone with it: no storage driver need hold it.
    "--tmpfs=/tmp:exec",
    # Nothing here is to reach anything but loopback, nor to be reached.
    "--network=none",
    # A tool that is missing is a failure.
    "--env=CI=true",
)


class MatrixError(Exception):
    """A suite could not be run; the text says what to look at."""


def say(text: str) -> None:
    """One line of progress."""
    sys.stderr.write(f"matrix: {text}\n")
    sys.stderr.flush()


def build(suite: str, log: Path) -> str:
    """Makes the suite's image, and its base where there is none; its name.

    Raises:
        MatrixError: It cannot be made; the log has why.
    """
    image = f"megaphone-matrix-{CHECKOUT}:{suite}"
    before = _image_id(image)
    with log.open("wb") as output:
        for command, given in (
            ((ROOT / "tests/support/base_image", suite), None),
            (
                (
                    *("docker", "build", "--tag", image, "--build-arg", f"SUITE={suite}"),
                    *("--file", "tests/matrix/Dockerfile", "-"),
                ),
                _checkout(),
            ),
        ):
            done = subprocess.run(
                command, input=given, stdout=output, stderr=subprocess.STDOUT, check=False
            )
            if done.returncode != 0:
                raise MatrixError(f"{suite}: no image: {log}")
    if before not in {None, _image_id(image)}:
        # Only the name has moved on; what both are made of stays.
        subprocess.run(("docker", "rmi", str(before)), capture_output=True, check=False)
    return image


def versions(image: str) -> dict[str, str]:
    """What ejabberd, otp and python the image has.

    Raises:
        MatrixError: It does not tell.
    """
    command = (".venv/bin/python", "-m", "tests.matrix.versions")
    told = subprocess.run(
        ("docker", "run", "--rm", *OPTIONS, image, *command),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if told.returncode != 0:
        raise MatrixError(f"{image}: it does not tell its versions: {told.stderr.strip()}")
    found: dict[str, str] = json.loads(told.stdout)
    return found


def run_tests(suite: str, image: str, arguments: Sequence[str], directory: Path) -> int:
    """Runs pytest in a container of the image; its exit status.

    Its output is in `output.txt` of the directory and on stderr, its JUnit XML in `junit.xml`,
    which is missing when it was ended.
    """
    junit = directory / "junit.xml"
    junit.unlink(missing_ok=True)
    pytest = (".venv/bin/python", "-m", "pytest", "-q", "-ra", f"--junitxml={JUNIT}")
    with _container(suite, image, (*pytest, *arguments)) as name:
        clock = threading.Timer(TIMEOUT, _end, (suite, name))
        clock.start()
        try:
            with (directory / "output.txt").open("w") as output:
                status = _attached(suite, name, output)
        finally:
            clock.cancel()
        subprocess.run(("docker", "cp", f"{name}:{JUNIT}", junit), capture_output=True, check=False)
    return status


@contextlib.contextmanager
def _container(suite: str, image: str, command: Sequence[str]) -> Iterator[str]:
    name = f"megaphone-matrix-{CHECKOUT}-{suite}"
    _remove(name)  # What a run that was killed has left.
    created = subprocess.run(
        ("docker", "create", "--name", name, *OPTIONS, image, *command),
        capture_output=True,
        text=True,
        check=False,
    )
    if created.returncode != 0:
        raise MatrixError(f"{suite}: no container: {created.stderr.strip()}")
    try:
        yield name
    finally:
        _remove(name)


def _attached(suite: str, name: str, output: io.TextIOBase) -> int:
    command = ("docker", "start", "--attach", name)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            output.write(line)
            output.flush()
            sys.stderr.write(f"{suite}: {line}")
            sys.stderr.flush()
    return process.returncode


def _end(suite: str, name: str) -> None:
    say(f"{suite}: ended after {TIMEOUT} s")
    subprocess.run(("docker", "kill", name), capture_output=True, check=False)


def _remove(name: str) -> None:
    subprocess.run(("docker", "rm", "--force", "--volumes", name), capture_output=True, check=False)


def _image_id(image: str) -> str | None:
    found = subprocess.run(
        ("docker", "image", "inspect", "--format", "{{.Id}}", image),
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() if found.returncode == 0 else None


def _checkout() -> bytes:
    """What belongs to the project, committed or not, as the build's context."""
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    # .dockerignore is for the images that users run, and would leave the tests out.
    names = sorted(set(listed.stdout.split("\0")) - {"", ".dockerignore"})
    packed = io.BytesIO()
    # Docker looks at the first 512 bytes for a member: a PAX header would be a Dockerfile to it.
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in names:
            if (ROOT / name).is_file():
                archive.add(ROOT / name, name, filter=_anonymous)
    return packed.getvalue()


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Whose the file is here would make another layer of the same text."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.mode & 0o100 else 0o644
    return member
