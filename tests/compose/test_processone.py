"""The override for ProcessOne's image, on one that is laid out like it."""

import json

import pytest

from tests.compose.stack import Stack, docker, wait_until


@pytest.fixture(scope="module")
def stack(images, tmp_path_factory):
    image = images.build(
        *(images.name("processone"), "tests/compose/processone.Dockerfile", "tests/compose"),
        BASE=images.ejabberd,
    )
    stack = Stack(
        f"{images.prefix}-processone",
        tmp_path_factory.mktemp("processone"),
        {
            "EJABBERD_IMAGE": images.ejabberd,
            "MEGAPHONE_IMAGE": images.megaphone,
            "PROCESSONE_IMAGE": image,
            "PROCESSONE_NAME": images.name("wrapped"),
        },
        ["docker/processone.override.yml"],
    )
    try:
        stack.up()
        yield stack
    finally:
        stack.down()


def test_the_node_compiles_and_installs_the_sidecars_own_sources(stack):
    assert stack.active()
    assert "mod_megaphone" in stack.ctl("modules_installed").split()
    installed = docker(
        *("exec", stack.container("ejabberd"), "sh", "-c"),
        "ls /opt/ejabberd/.ejabberd-modules/mod_megaphone/ebin",
    )
    assert "mod_megaphone.beam" in installed.split()
    assert stack.inspect("ejabberd")["HostConfig"]["ReadonlyRootfs"]
    # The one that laid the sources has ended, and had what it takes to change an owner.
    assert stack.inspect("module")["State"]["ExitCode"] == 0


def test_it_is_there_again_when_the_containers_are_made_anew(stack):
    stack.compose("rm", "-sfv", "ejabberd", "megaphone")
    stack.up()
    wait_until(stack.active, 60, "the sidecar is active")
    done = stack.megaphone("broadcast", "Hello {{ user }}", "--json")
    assert json.loads(done.stdout)["id"]
