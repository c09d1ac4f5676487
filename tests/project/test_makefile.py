import os
import re
import shutil
import subprocess

import pytest

#: What a person finds there.
TARGETS = {"help", "setup", "demo", "dashboard", "test", "matrix", "lint", "bench", "clean", "dist"}
TARGETS |= {"compose-up", "compose-down", "compose-test"}

#: Targets that need nothing set up.
BARE = {"help", "setup", "matrix", "lock", "clean", "compose-up", "compose-down"}


@pytest.fixture(scope="module")
def rules(root) -> dict[str, list[str]]:
    text = (root / "Makefile").read_text()
    return {
        name: needs.split()
        for name, needs in re.findall(r"^([a-z-]+):([a-z ]*)##", text, re.MULTILINE)
    }


def test_help_is_the_default_and_names_every_target(root, rules):
    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=root, check=True, capture_output=True, text=True
    ).stdout
    assert {line.split()[1] for line in shown.splitlines()} == set(rules)
    assert set(rules) >= TARGETS


def test_every_other_target_sets_up_first(rules):
    assert {name for name, needs in rules.items() if "setup" not in needs} == BARE


def test_every_target_is_phony(root, rules):
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (root / "Makefile").read_text(), re.MULTILINE)
    assert set(phony.split()) == set(rules)


def test_ci_lints_and_tests(root):
    text = (root / ".ci/run").read_text()
    assert os.access(root / ".ci/run", os.X_OK)
    assert re.search(r"^set -euo pipefail$", text, re.MULTILINE)
    assert re.findall(r"^make (.*)$", text, re.MULTILINE) == ["lint", "test"]
    # Whatever it comes to: the stack's tests come last, and where there is no Docker not at all.
    assert text.endswith("if docker info >/dev/null 2>&1; then\n    make compose-test\nfi\n")


@pytest.fixture
def setup_without_erlang(root, tmp_path):
    """Runs scripts/setup of a copy of the project on a machine that has no Erlang."""
    project, tools = tmp_path / "project", tmp_path / "bin"
    (project / "scripts").mkdir(parents=True)
    shutil.copy(root / "scripts/setup", project / "scripts")
    shutil.copytree(root / "requirements", project / "requirements")
    shutil.copy(root / "pyproject.toml", project)
    tools.mkdir()
    for tool in ("sh", "dirname", "cat", "tr", "sort", "python3"):
        (tools / tool).symlink_to(shutil.which(tool))

    def run(**scripts: str) -> subprocess.CompletedProcess:
        for name, text in scripts.items():
            program = tools / name.replace("_", "-")
            program.write_text(f"#!/bin/sh\n{text}\n")
            program.chmod(0o755)
        return subprocess.run(
            [str(tools / "sh"), "scripts/setup"],
            cwd=project,
            env={"PATH": str(tools)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_without_apt_setup_says_what_to_install(setup_without_erlang):
    outcome = setup_without_erlang(id="echo 0")
    assert outcome.returncode == 1
    for package in ("erlang-base", "prometheus", "chromium"):
        assert re.search(rf" {package}[ .]", outcome.stderr), package
    assert "dialyzer" in outcome.stderr
    assert "prometheus" in outcome.stderr
    assert "package manager" in outcome.stderr


def test_without_root_setup_says_what_to_run(setup_without_erlang):
    outcome = setup_without_erlang(id="echo 1000", apt_get="exit 99")
    assert outcome.returncode == 1
    assert "sudo apt-get install" in outcome.stderr
    assert "erlang-dialyzer" in outcome.stderr
