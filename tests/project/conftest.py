import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def files(root) -> list[Path]:
    """What belongs to the project: tracked, or new and not ignored; relative names."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    names = [Path(name) for name in listed.stdout.split("\0") if name]
    return [name for name in names if (root / name).is_file()]


@pytest.fixture(scope="session")
def distributions(root, tmp_path_factory) -> Path:
    """A directory with the wheel and the source distribution."""
    directory = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(directory)],
        cwd=root,
        check=True,
        capture_output=True,
    )
    return directory
