"""Programs that a test needs and a machine may lack: skipped here, failed where CI=true."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from bridge.embedded_node import EmbeddedNodeError, installation


def require_tool(name: str) -> Path:
    """The path of a program; without it the test is skipped, or fails when CI=true."""
    found = shutil.which(name)
    if found is None:
        _missing(f"{name} is not installed (make setup installs it)")
    return Path(found)


def require_ejabberd() -> installation.Installation:
    """The installed ejabberd; without it the test is skipped, or fails when CI=true."""
    try:
        return installation.find()
    except EmbeddedNodeError as error:
        _missing(str(error))


def _missing(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
