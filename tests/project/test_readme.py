"""What the README and the docs show exists: commands, options, files, make targets."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer.main

from bridge.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "ARCHITECTURE.md", *ROOT.glob("docs/*.md")])

COMMANDS = sorted(
    {
        line.split("  #")[0].strip()
        for page in PAGES
        for line in page.read_text().splitlines()
        if re.match(r"    (/\S+/)?megaphone [a-z]", line) and "──" not in line
    }
)


def test_there_are_commands_to_look_at():
    assert len(COMMANDS) > 8


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_that_is_shown_is_understood(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("notice.txt").write_text("Hello {{ user }}")
    command = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    # Parses and checks the arguments, and runs nothing.
    with command.make_context(command.name, words) as context:
        assert context.params


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_to_a_file(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_make_targets_that_are_shown_exist():
    shown = set(
        re.findall(r"(?:^    |`)make ([a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    )
    assert {"demo", "test"} <= shown
    for target in shown:
        subprocess.run(["make", "-n", "-C", ROOT, target], check=True, capture_output=True)
