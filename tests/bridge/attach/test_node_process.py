from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.attach import node_process
from bridge.attach.node_process import NodeProcess
from bridge.cli.errors import CommandError, ExitStatus


def process(environment=None, arguments=()):
    return NodeProcess(
        pid=os.getpid(),
        name="a@b",
        uid=os.geteuid(),
        gid=os.getegid(),
        groups=(),
        environment=environment or {},
        arguments=arguments,
        directory=Path("/spool"),
    )


def test_its_facts(system_node):
    found = system_node.process
    assert found.user == "ejabberd"
    assert found.modules == system_node.modules
    assert found.modules_configuration == system_node.base / "modules.d"
    assert found.configuration == system_node.configuration
    assert found.directory == system_node.base / "spool"
    assert found.sees(system_node.base)
    assert not found.own_mounts


def test_it_is_found_by_its_pid_too(system_node):
    found = system_node.process
    assert node_process.find(system_node.name, found.pid) == found
    with pytest.raises(CommandError, match=f"process {os.getpid()} is not") as caught:
        node_process.find(system_node.name, os.getpid())
    assert caught.value.status == ExitStatus.USAGE


def test_two_of_one_name_need_a_choice(system_node, monkeypatch):
    pid = system_node.process.pid
    monkeypatch.setattr(node_process, "_processes", lambda: [pid, pid])
    with pytest.raises(CommandError, match="several processes carry the name"):
        node_process.find(system_node.name)


def test_one_that_runs_elsewhere():
    with pytest.raises(CommandError, match="on the node's own machine") as caught:
        node_process.find("nobody@nowhere.invalid")
    assert caught.value.status == ExitStatus.NODE_NOT_RUNNING


@pytest.mark.parametrize(
    ("environment", "modules", "configuration"),
    [
        ({"HOME": "/h"}, "/h/.ejabberd-modules", "/h/.ejabberd-modules/conf"),
        ({}, "/.ejabberd-modules", "/.ejabberd-modules/conf"),
        ({"HOME": "/h", "CONTRIB_MODULES_PATH": "/m"}, "/m", "/m/conf"),
        ({"CONTRIB_MODULES_PATH": "/m", "CONTRIB_MODULES_CONF_DIR": "/c"}, "/m", "/c"),
        ({"HOME": "/h", "CONTRIB_MODULES_PATH": ""}, "/h/.ejabberd-modules", None),
    ],
)
def test_where_contributed_modules_are(environment, modules, configuration):
    found = process(environment)
    assert found.modules == Path(modules)
    if configuration:
        assert found.modules_configuration == Path(configuration)


@pytest.mark.parametrize(
    ("environment", "arguments", "path"),
    [
        ({"EJABBERD_CONFIG_PATH": "/e.yml"}, (), "/e.yml"),
        ({}, (), "/spool/ejabberd.yml"),
        ({"EJABBERD_CONFIG_PATH": "/e.yml"}, ("-ejabberd", "config", '"/x.yml"'), "/x.yml"),
    ],
)
def test_where_the_configuration_is(environment, arguments, path):
    assert process(environment, arguments).configuration == Path(path)


def test_an_unknown_user_is_a_number():
    assert process().user
    unknown = NodeProcess(1, "a@b", 4_000_000, 1, (), {}, (), Path("/"))
    assert unknown.user == "4000000"
