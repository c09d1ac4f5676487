"""A stand-in for ejabberdctl that answers from files and keeps its arguments."""

from __future__ import annotations

import json
import sys

import pytest

from bridge.cli import main as main_module

SCRIPT = """\
#!{python}
import json, pathlib, sys
place = pathlib.Path({place!r})
with (place / "calls.jsonl").open("a", encoding="utf-8") as calls:
    calls.write(json.dumps(sys.argv[1:]) + chr(10))
answers = place / sys.argv[1]
if not answers.exists():
    print(f"Error: unknown command '{{sys.argv[1]}}'. Did you mean 'status'?")
    sys.exit(1)
lines = answers.read_text(encoding="utf-8").splitlines()
if len(lines) > 1:  # The last answer stays.
    answers.write_text(chr(10).join(lines[1:]), encoding="utf-8")
print(lines[0])
"""


class Node:
    def __init__(self, place):
        self.place = place
        self.ejabberdctl = place / "ejabberdctl"
        self.ejabberdctl.write_text(SCRIPT.format(python=sys.executable, place=str(place)))
        self.ejabberdctl.chmod(0o755)

    def answers(self, command, *documents):
        text = "\n".join(json.dumps(document) for document in documents)
        (self.place / command).write_text(text, encoding="utf-8")

    @property
    def calls(self):
        lines = (self.place / "calls.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture
def node(tmp_path, monkeypatch):
    node = Node(tmp_path)
    monkeypatch.setenv("MEGAPHONE_EJABBERDCTL", str(node.ejabberdctl))
    return node


@pytest.fixture
def run(capfd):
    """Runs `megaphone` in this process: exit status, standard output, standard error."""

    def run(*words):
        status = main_module._run(list(words))
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return run
