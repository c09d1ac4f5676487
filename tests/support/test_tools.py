"""A tool that is missing skips a test here and fails it where CI=true."""

import pytest

from bridge.embedded_node import EmbeddedNodeError, installation
from tests.support import tools

SKIPPED, FAILED = pytest.skip.Exception, pytest.fail.Exception


def no_ejabberd():
    raise EmbeddedNodeError("ejabberdctl is not here", "install it")


@pytest.mark.parametrize(
    ("ci", "outcome"), [(None, SKIPPED), ("", SKIPPED), ("false", SKIPPED), ("true", FAILED)]
)
def test_what_a_missing_tool_does(monkeypatch, ci, outcome):
    if ci is None:
        monkeypatch.delenv("CI", raising=False)
    else:
        monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="no-such-tool is not installed"):
        tools.require_tool("no-such-tool")
    monkeypatch.setattr(installation, "find", no_ejabberd)
    with pytest.raises(outcome, match="ejabberdctl is not here"):
        tools.require_ejabberd()


@pytest.mark.parametrize("ci", ["", "true"])
def test_a_tool_that_is_there(monkeypatch, ci):
    monkeypatch.setenv("CI", ci)
    assert tools.require_tool("sh").name == "sh"
