"""What is said to be supported is what passed (`make matrix`)."""

import re
import tomllib

import pytest
from packaging.specifiers import SpecifierSet

from tests.matrix.results import SUITES, load, with_table


@pytest.fixture(scope="module")
def results(root):
    return load(root / "docs/supported.json")


def test_the_readmes_table_is_that_of_the_results(root, results):
    readme = (root / "README.md").read_text()
    assert with_table(readme, results) == readme


def test_every_suite_has_run_and_passed(results):
    assert {suite for suite, found in results.items() if found.supported} == set(SUITES)


def test_every_python_that_passed_is_in_the_metadata(root, results):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    lines = project["classifiers"]
    claimed = {found[1] for line in lines if (found := re.search(r":: (3\.\d+)", line))}
    assert {".".join(found.python.split(".")[:2]) for found in results.values()} <= claimed
    for found in results.values():
        assert SpecifierSet(project["requires-python"]).contains(found.python)
