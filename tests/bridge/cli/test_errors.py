import re

from bridge.cli.errors import CommandError, ExitStatus


def test_an_error_reads_as_what_and_remedy():
    error = CommandError("the node is not running", "start it", ExitStatus.NODE_NOT_RUNNING)
    assert str(error) == "the node is not running. start it"
    assert str(CommandError("interrupted")) == "interrupted"
    assert CommandError("it failed").status == ExitStatus.FAILURE


def test_every_exit_status_is_documented():
    from tests.project.conftest import ROOT

    text = (ROOT / "docs/exit-statuses.md").read_text()
    documented = {int(number) for number in re.findall(r"^\|\s*`?(\d+)`?\s*\|", text, re.MULTILINE)}
    assert documented == set(ExitStatus)
