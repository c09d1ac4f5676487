from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.attach import module_options
from bridge.cli.errors import CommandError, ExitStatus

COMMENTED = """\
# Megaphone.
modules:
  # Its options.
  mod_megaphone:
    workers: 3  # one less than the cores
    python: /old/python   # changed by attach
    limits:
      memory: 1
      time: 2

# The end.
"""


@pytest.mark.parametrize(
    "text",
    [
        COMMENTED,
        module_options.EMPTY,
        "modules:\n  mod_megaphone:\n",
        "modules: {mod_megaphone: {workers: 3, python: 'x'}}\n",
        "modules:\n  mod_megaphone: []\n",
        "modules:\n    mod_megaphone:\n        ? python\n        : |\n          folded\n",
    ],
)
def test_options_are_set_and_the_others_kept(text):
    before = module_options.read(text)
    changed = module_options.change(text, {"python": "/new: #é", "batch": 5, "on": True})
    assert module_options.read(changed) == {
        **before,
        "python": "/new: #é",
        "batch": 5,
        "on": True,
    }


def test_comments_and_layout_stay():
    changed = module_options.change(COMMENTED, {"python": "/new", "limits": [1], "batch": 5})
    assert (
        changed
        == """\
# Megaphone.
modules:
  # Its options.
  mod_megaphone:
    batch: 5
    workers: 3  # one less than the cores
    python: "/new"   # changed by attach
    limits:
      [1]

# The end.
"""
    )


def test_setting_what_is_there_changes_nothing_more():
    once = module_options.change(COMMENTED, {"python": "/p", "workers": 1})
    assert module_options.change(once, {"python": "/p", "workers": 1}) == once


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


names = st.sampled_from(["python", "workers", "limits", "batch", "http_port", "env"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(names, json_values, max_size=3), max_size=3))
def test_any_options_in_any_order(changes):
    text, expected = COMMENTED, module_options.read(COMMENTED)
    for change in changes:
        text = module_options.change(text, change)
        expected |= change
    assert module_options.read(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "modules: {}", "modules:\n  mod_megaphone: 5\n", "modules: [", "hosts: [a]\n"],
)
def test_a_file_of_no_use_is_an_error(text):
    with pytest.raises(CommandError, match="of no use") as caught:
        module_options.read(text)
    assert caught.value.status == ExitStatus.CONFIGURATION


@pytest.mark.parametrize(
    ("text", "value"),
    [("workers=2", 2), ("http=true", True), ("x=a=b", "a=b"), ("x=[1, 2]", [1, 2]), ("x=", None)],
)
def test_an_assignment(text, value):
    assert module_options.parse_assignment(text) == (text.partition("=")[0], value)


@pytest.mark.parametrize("text", ["workers", "=2", "a b=2", "x=[1", ""])
def test_what_is_no_assignment(text):
    with pytest.raises(CommandError) as caught:
        module_options.parse_assignment(text)
    assert caught.value.status == ExitStatus.USAGE


def test_the_empty_file_is_yaml():
    assert yaml.safe_load(module_options.EMPTY) == {"modules": {"mod_megaphone": {}}}
