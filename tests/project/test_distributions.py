import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

FIND = """
from bridge.resources import mod_megaphone_source
print(mod_megaphone_source())
"""


def wheel_names(directory: Path) -> set[str]:
    (wheel,) = directory.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def installed(distributions, tmp_path_factory) -> Path:
    """The Python of a fresh environment with the wheel and nothing else."""
    environment = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(environment, with_pip=False, symlinks=True)
    (wheel,) = distributions.glob("*.whl")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", str(environment / "bin/python"), "install"),
            *("--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel)),
        ],
        check=True,
    )
    return environment / "bin/python"


def test_the_wheel_holds_the_packages_and_the_erlang_end(files, distributions):
    packages = {"bridge", "erlang_port", "metrics", "mod_megaphone"}
    expected = {str(name) for name in files if name.parts[0] in packages}
    assert "mod_megaphone/mod_megaphone.spec" in expected
    assert any(name.startswith("mod_megaphone/src/") for name in expected)
    assert wheel_names(distributions) == expected


def test_a_wheel_made_from_the_source_distribution_is_the_same(distributions, tmp_path):
    (archive,) = distributions.glob("*.tar.gz")
    # Python 3.11.2 has no tarfile filters, and Python 3.14 wants one.
    (tmp_path / "source").mkdir()
    subprocess.run(["tar", "-xzf", str(archive), "-C", str(tmp_path / "source")], check=True)
    (source,) = (tmp_path / "source").iterdir()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")],
        cwd=source,
        check=True,
        capture_output=True,
    )
    assert wheel_names(tmp_path / "dist") == wheel_names(distributions)


def test_an_installed_wheel_finds_its_erlang_end(installed, distributions, tmp_path):
    # A directory of the same name where the command is run must not be taken for it.
    (tmp_path / "mod_megaphone").mkdir()
    found = subprocess.run(
        [str(installed), "-c", FIND], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    source = Path(found.stdout.strip())
    assert source.is_relative_to(installed.parent.parent.resolve())
    with zipfile.ZipFile(next(distributions.glob("*.whl"))) as archive:
        carried = {
            name.removeprefix("mod_megaphone/"): archive.read(name)
            for name in archive.namelist()
            if name.startswith("mod_megaphone/")
        }
    found_files = [path for path in source.rglob("*") if path.is_file()]
    assert {str(path.relative_to(source)): path.read_bytes() for path in found_files} == carried
    assert "mod_megaphone.spec" in carried


def test_an_installed_wheel_has_the_command(installed):
    assert (installed.parent / "megaphone").is_file()
