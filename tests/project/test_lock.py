import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


def pins(text: str) -> dict[str, tuple[Version, int]]:
    """Each pinned package's version and how many hashes stand under it."""
    found = {}
    for block in re.split(r"^(?=[a-zA-Z0-9])", text, flags=re.MULTILINE):
        if match := re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)", block):
            hashes = len(re.findall(r"--hash=sha256:[0-9a-f]{64}", block))
            found[canonicalize_name(match[1])] = (Version(match[2]), hashes)
    return found


@pytest.fixture(scope="module")
def metadata(root):
    return tomllib.loads((root / "pyproject.toml").read_text())


def blocks(text: str) -> dict[str, str]:
    """Each package's line with its hashes, without what says why it is there."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found = re.split(r"^(?=[a-zA-Z0-9])", "\n".join(lines), flags=re.MULTILINE)
    return {block.partition("==")[0]: block.strip() for block in found if block.strip()}


def wanted(metadata, lock, root) -> list[str]:
    if lock == "runtime":
        return metadata["project"]["dependencies"]
    if lock == "build":
        lines = (root / "requirements/build.in").read_text().splitlines()
        return [line for line in lines if line and not line.startswith("#")]
    if lock == "fuzz":
        return metadata["dependency-groups"]["fuzz"]
    return (
        metadata["project"]["dependencies"]
        + metadata["project"]["optional-dependencies"]["demo"]
        + metadata["dependency-groups"]["dev"]
    )


@pytest.mark.parametrize("lock", ["build", "dev", "fuzz", "runtime"])
def test_the_lock_holds_what_the_project_asks_for(metadata, root, lock):
    locked = pins((root / f"requirements/{lock}.txt").read_text())
    requirements = [Requirement(line) for line in wanted(metadata, lock, root)]
    assert requirements
    for requirement in requirements:
        version, _ = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement


@pytest.mark.parametrize("lock", ["build", "dev", "fuzz", "runtime"])
def test_every_package_of_the_lock_has_a_hash(root, lock):
    for name, (_, hashes) in pins((root / f"requirements/{lock}.txt").read_text()).items():
        assert hashes, name


def test_the_build_backend_comes_from_the_lock(metadata, root):
    locked = pins((root / "requirements/build.txt").read_text())
    for line in metadata["build-system"]["requires"]:
        requirement = Requirement(line)
        version, _ = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version)


def test_no_package_has_two_versions(root):
    dev, build, fuzz = (
        pins((root / f"requirements/{lock}.txt").read_text()) for lock in ("dev", "build", "fuzz")
    )
    for other in (build, fuzz):
        for name in dev.keys() & other.keys():
            assert dev[name][0] == other[name][0], name


def test_what_the_image_installs_is_what_the_tests_ran_with(root):
    dev, runtime = (
        blocks((root / f"requirements/{lock}.txt").read_text()) for lock in ("dev", "runtime")
    )
    assert runtime
    assert runtime.items() <= dev.items()


def test_the_image_has_no_tool_of_the_tests(metadata, root):
    runtime = pins((root / "requirements/runtime.txt").read_text())
    extra = metadata["project"]["optional-dependencies"]["demo"]
    for line in metadata["dependency-groups"]["dev"] + extra:
        assert canonicalize_name(Requirement(line).name) not in runtime
