from __future__ import annotations

import os

import pytest

from bridge.attach import configuration
from bridge.attach.node_process import NodeProcess
from bridge.cli.errors import CommandError, ExitStatus


@pytest.fixture
def node(tmp_path):
    (tmp_path / "modules.d").mkdir()
    (tmp_path / "modules").mkdir()
    return NodeProcess(
        pid=os.getpid(),
        name="a@b",
        uid=os.geteuid(),
        gid=os.getegid(),
        groups=(),
        environment={
            "EJABBERD_CONFIG_PATH": str(tmp_path / "ejabberd.yml"),
            "CONTRIB_MODULES_PATH": str(tmp_path / "modules"),
            "CONTRIB_MODULES_CONF_DIR": str(tmp_path / "modules.d"),
        },
        arguments=(),
        directory=tmp_path,
    )


def write(node, text, name="ejabberd.yml"):
    file = node.directory / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("hosts: [a]\nmodules:\n  mod_ping: {}\n", []),
        ("modules:\n  mod_ping: {}\n  mod_megaphone: {}\n", [3]),
        ("# mod_megaphone\nmodules: {}\n", []),
        ("host_config:\n  a:\n    modules:\n      'mod_megaphone': {}\n", [4]),
        ("define_macro:\n  M:\n    mod_megaphone: {}\nmodules: M\n", [3]),
        ("define_macro:\n  M: &m {mod_megaphone: {}}\nmodules: *m\n", [2]),
        ("install_contrib_modules:\n  - mod_megaphone\n", [2]),
        ("listen:\n  - port: 1\n    module: megaphone_listener\n", [3]),
        ("listen:\n  - request_handlers:\n      /m: mod_megaphone\n", [3]),
        ("log_modules_fully: [mod_megaphone]\n", []),
        ("api_permissions:\n  x: {what: [megaphone_status]}\n", []),
        ("a: &a {b: *a}\n", []),
        ("", []),
    ],
)
def test_every_mention_is_found_with_its_line(node, text, lines):
    write(node, text)
    assert [place.line for place in configuration.read(node).mentions] == lines


def test_mentions_in_included_files(node):
    write(node, "include_config_file:\n  - one.yml\n  - two.yml: {allow_only: [modules]}\n")
    write(node, "include_config_file: deep/three.yml\n", "one.yml")
    write(node, "include_config_file: {ejabberd.yml: {}}\n", "two.yml")
    file = write(node, "modules:\n  mod_megaphone: {}\n", "deep/three.yml")
    mentions = configuration.read(node).mentions
    assert [str(place) for place in mentions] == [f"{file}:2"]


def test_contributed_files(node):
    write(node, "modules: {}\n")
    write(node, "modules:\n  mod_megaphone: {}\n", "modules/mod_megaphone/conf/mod_megaphone.yml")
    assert configuration.read(node).mentions == []
    assert configuration.read(node).own_file is None
    own = write(node, "modules:\n  mod_megaphone: {}\n", "modules.d/mod_megaphone.yml")
    other = write(node, "modules:\n  mod_megaphone: {}\n", "modules.d/mod_other.yaml")
    found = configuration.read(node)
    assert found.own_file == own
    assert [place.file for place in found.mentions] == [other]


def test_a_contributed_file_is_shadowed_by_the_operators_of_its_name(node):
    write(node, "modules: {}\n")
    write(node, "modules:\n  mod_megaphone: {}\n", "modules/mod_other/conf/mod_other.yml")
    assert len(configuration.read(node).mentions) == 1
    write(node, "modules: {}\n", "modules.d/mod_other.yml")
    assert configuration.read(node).mentions == []


@pytest.mark.parametrize("value", ["false", "no", "Off"])
def test_contributed_modules_forbidden(node, value):
    write(node, f"hosts: [a]\nallow_contrib_modules: {value}\n")
    with pytest.raises(CommandError, match=r"ejabberd.yml:2 says allow_contrib_modules") as caught:
        configuration.refuse_forbidden(configuration.read(node))
    assert caught.value.status == ExitStatus.CONFIGURATION


def test_contributed_modules_allowed(node):
    write(node, "allow_contrib_modules: true\nmodules: {allow_contrib_modules: false}\n")
    configuration.refuse_forbidden(configuration.read(node))


def test_hosts_with_modules_of_their_own(node):
    write(node, "host_config:\n  a.example:\n    modules:\n      mod_ping: {}\n  b.example: {}\n")
    replaced = configuration.read(node).replaced
    assert [(place.line, place.option) for place in replaced] == [(3, "a.example")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("modules:\n  a: [\n", r"ejabberd.yml:3 is not YAML"),
        ("a: \x00\n", "is not YAML"),
        ("include_config_file: no.yml\n", r"no.yml cannot be read: No such file"),
    ],
)
def test_what_cannot_be_read_is_named(node, text, told):
    write(node, text)
    with pytest.raises(CommandError, match=told) as caught:
        configuration.read(node)
    assert caught.value.status == ExitStatus.CONFIGURATION


def test_a_file_of_others_is_a_matter_of_permission(node):
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    write(node, "").chmod(0)
    with pytest.raises(CommandError, match="may not read") as caught:
        configuration.read(node)
    assert caught.value.status == ExitStatus.PERMISSION


def test_the_old_erlang_format_is_refused(node):
    node.environment["EJABBERD_CONFIG_PATH"] = "ejabberd.cfg"
    with pytest.raises(CommandError, match="is not YAML"):
        configuration.read(node)
