"""The images and the stack that the tests here share; `make compose-test` runs them."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.images import Images, built
from tests.compose.stack import ROOT, Stack

#: Seconds for one test, with the images that the first one waits for.
TIMEOUT = 840


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "compose" and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def daemon() -> None:
    """A Docker daemon; without one the tests are skipped, or fail when CI=true."""
    try:
        found = subprocess.run(["docker", "info"], capture_output=True, timeout=60, check=False)
        answers = found.returncode == 0
    except OSError:
        answers = False
    if answers and (shutil.which("docker-compose") or _has_v2()):
        return
    reason = "no Docker daemon answers" if not answers else "Compose is not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def _has_v2() -> bool:
    found = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return found.returncode == 0


@pytest.fixture(scope="session")
def images(daemon) -> Iterator[Images]:  # noqa: ARG001 - they need it
    """All images, gone afterwards."""
    with built() as images:
        yield images


@pytest.fixture(scope="session")
def stack(images, tmp_path_factory) -> Iterator[Stack]:
    """The stack with Prometheus, healthy; leave it as you found it. Nothing of it is left."""
    stack = Stack(
        images.prefix,
        tmp_path_factory.mktemp("stack"),
        {
            "COMPOSE_PROFILES": "prometheus",
            "EJABBERD_IMAGE": images.ejabberd,
            "MEGAPHONE_IMAGE": images.megaphone,
            "PROMETHEUS_IMAGE": images.prometheus,
            "SINKS_IMAGE": images.sinks,
        },
        ["tests/compose/sinks.override.yml"],
    )
    try:
        stack.up()
        yield stack
    finally:
        stack.down()
