"""attach against a real node, with a small stand-in for the Erlang end and for the Python check."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from bridge.attach import installation, removal
from bridge.attach.ejabberdctl import Ejabberdctl
from bridge.attach.installation import AttachRequest
from bridge.attach.module_directory import ModuleDirectory
from bridge.attach.python_check import PythonFound
from bridge.cli.errors import CommandError, ExitStatus
from tests.support.logs import errors


def quiet(_line):
    pass


def tree(node):
    """Every file below the module directory with its content, None when it is not there."""
    if not node.modules.exists():
        return None
    return {
        str(path.relative_to(node.modules)): path.read_bytes() if path.is_file() else None
        for path in sorted(node.modules.rglob("*"))
    }


def without_beams(files):
    return {name: content for name, content in files.items() if "ebin" not in name}


class Station:
    """Attaches and detaches packages at one node."""

    def __init__(self, node, monkeypatch):
        self.node = node
        self._monkeypatch = monkeypatch

    def attach(self, package, version, **request):
        self._monkeypatch.setattr(installation, "mod_megaphone_source", lambda: package)
        self._monkeypatch.setattr(installation, "__version__", version)
        self._monkeypatch.setattr(
            installation.python_check,
            "check",
            lambda _node, executable: PythonFound(executable, "3", version),
        )
        wanted = AttachRequest(ejabberdctl=self.node.ejabberdctl, timeout=5, **request)
        return installation.attach(wanted, installation.plan(wanted), quiet)

    def detach(self):
        return removal.detach(self.node.ejabberdctl, None, quiet)

    def status(self):
        return self.node.ctl.json("megaphone_status")

    def options(self):
        return yaml.safe_load(self.options_file.read_text())["modules"]["mod_megaphone"]

    @property
    def options_file(self):
        return self.node.modules / "mod_megaphone/conf/mod_megaphone.yml"


@pytest.fixture
def station(system_node, monkeypatch):
    station = Station(system_node, monkeypatch)
    yield station
    monkeypatch.undo()
    system_node.write_configuration()
    for file in (system_node.base / "modules.d").iterdir():
        file.unlink()
    station.detach()


def test_attach_and_detach_leave_the_node_as_it_was(station, stand_in):
    node = station.node
    before = tree(node)
    report = station.attach(stand_in("1", 1), "1")
    assert report.action == "installed"
    assert station.status()["part"] == 1
    assert station.options() == {"python": sys.executable}
    owner = node.process.uid
    assert all(path.lstat().st_uid == owner for path in node.modules.rglob("*"))
    assert not list(node.modules.rglob("stale.beam"))

    assert station.detach().action == "detached"
    assert tree(node) == before
    assert node.ctl.run("reload_config").status == 0
    assert node.ctl.run("megaphone_status").unknown_command


def test_it_is_idempotent(station, stand_in):
    package = stand_in("1", 1)
    station.attach(package, "1")
    there = tree(station.node)
    assert station.attach(package, "1").action == "unchanged"
    assert tree(station.node) == there
    assert station.detach().action == "detached"
    assert station.detach().action == "unchanged"


def test_the_node_boots_after_attach_and_after_detach(station, stand_in):
    station.attach(stand_in("1", 1), "1")
    station.node.restart()
    assert station.status()["part"] == 1
    station.detach()
    station.node.restart()
    assert station.node.ctl.run("megaphone_status").unknown_command
    assert errors(station.node.log) == []


def test_an_upgrade_loads_every_module_and_keeps_the_options(station, stand_in):
    station.attach(stand_in("1", 1), "1")
    station.options_file.write_text(
        "modules:\n"
        "  mod_megaphone:\n"
        "    workers: 3  # Four were too many.\n"
        f"    python: {sys.executable}\n"
    )
    report = station.attach(stand_in("2", 2), "2")
    assert (report.action, report.plan.previous_version) == ("upgraded", "1")
    assert station.node.eval("mod_megaphone_part:version()") == "2"
    assert station.status()["node"]["version"] == "2"
    assert station.options() == {"workers": 3, "python": sys.executable}
    assert "# Four were too many." in station.options_file.read_text()
    assert not (station.node.modules / ".megaphone/previous").exists()


def test_what_a_kill_at_the_last_moment_leaves_is_cleared(station, stand_in, monkeypatch):
    station.attach(stand_in("1", 1), "1")
    package = stand_in("2", 2)
    with monkeypatch.context() as killed:
        killed.setattr(ModuleDirectory, "settle", lambda _directory: None)
        station.attach(package, "2")
    assert (station.node.modules / ".megaphone/previous").exists()
    assert station.attach(package, "2").action == "unchanged"
    assert not (station.node.modules / ".megaphone/previous").exists()


def test_another_option_or_python_is_an_upgrade(station, stand_in):
    package = stand_in("1", 1)
    station.attach(package, "1")
    report = station.attach(package, "1", options={"workers": 2})
    assert report.action == "upgraded"
    assert station.options() == {"python": sys.executable, "workers": 2}
    assert station.attach(package, "1", python="/opt/other/python").action == "upgraded"
    assert station.options() == {"python": "/opt/other/python", "workers": 2}


@pytest.mark.parametrize(
    ("options", "broken", "status", "told"),
    [
        ({}, True, ExitStatus.FAILURE, "broken"),
        (
            {"wrokers": 1},
            False,
            ExitStatus.CONFIGURATION,
            "wrokers: mod_megaphone has no such option",
        ),
        ({"state": "down"}, False, ExitStatus.PORT_PROGRAM_DOWN, "port is down: exit status 1"),
    ],
    ids=["not compiled", "bad option", "port program down"],
)
def test_a_failed_attach_is_taken_back(station, stand_in, options, broken, status, told):
    before = tree(station.node)
    with pytest.raises(CommandError, match=told) as caught:
        station.attach(stand_in("1", 1, broken=broken), "1", options=options)
    assert caught.value.status == status
    assert tree(station.node) == before
    assert station.node.ctl.run("reload_config").status == 0


def test_keep_leaves_a_failed_attach_in_place(station, stand_in):
    with pytest.raises(CommandError) as caught:
        station.attach(stand_in("1", 1), "1", options={"state": "down"}, keep=True)
    assert caught.value.status == ExitStatus.PORT_PROGRAM_DOWN
    assert station.status()["port"]["state"] == "down"


@pytest.mark.parametrize("broken", [True, False], ids=["not compiled", "bad option"])
def test_a_failed_upgrade_is_taken_back(station, stand_in, broken):
    station.attach(stand_in("1", 1), "1", options={"workers": 3})
    before = without_beams(tree(station.node))
    with pytest.raises(CommandError):
        station.attach(
            stand_in("2", 2, broken=broken), "2", options={} if broken else {"wrokers": 1}
        )
    assert without_beams(tree(station.node)) == before
    assert station.node.eval("mod_megaphone_part:version()") == "1"
    assert station.options() == {"python": sys.executable, "workers": 3}


@pytest.mark.parametrize("moment", ["module_install", "megaphone_status"])
def test_what_a_killed_upgrade_leaves_is_taken_up(station, stand_in, monkeypatch, moment):
    station.attach(stand_in("1", 1), "1", options={"workers": 3})
    run = Ejabberdctl.run

    def die(self, *arguments, **settings):
        # Before the upgrade begins the status is asked for as well.
        begun = (station.node.modules / ".megaphone/previous").exists()
        if arguments[0] == moment and begun:
            raise KeyboardInterrupt
        return run(self, *arguments, **settings)

    with monkeypatch.context() as killed:
        killed.setattr(Ejabberdctl, "run", die)
        killed.setattr(installation, "_take_back", lambda _plan: None)
        with pytest.raises(KeyboardInterrupt):
            station.attach(stand_in("2", 2), "2")
    station.attach(stand_in("3", 3), "3")
    assert station.status()["part"] == 3
    assert station.options() == {"python": sys.executable, "workers": 3}
    assert not (station.node.modules / ".megaphone/options.yml").exists()


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ("  mod_megaphone: {}\n", "ejabberd.yml:7 names mod_megaphone"),
        (
            "append_host_config:\n  localhost:\n    modules:\n      mod_megaphone: {}\n",
            "ejabberd.yml:10 names mod_megaphone",
        ),
        ("allow_contrib_modules: false\n", "ejabberd.yml:7 says allow_contrib_modules: false"),
        ("include_config_file: more.yml\n", "more.yml:2 names mod_megaphone"),
        ("a: [\n", "ejabberd.yml:8 is not YAML"),
    ],
    ids=["modules", "append_host_config", "forbidden", "included", "not YAML"],
)
def test_a_configuration_that_would_break_the_node_is_refused(station, stand_in, extra, told):
    node = station.node
    # A relative name starts at the node's working directory.
    (node.base / "spool/more.yml").write_text("modules:\n  mod_megaphone: {}\n")
    node.write_configuration(extra)
    before = tree(node)
    with pytest.raises(CommandError, match=told) as caught:
        station.attach(stand_in("1", 1), "1")
    assert caught.value.status == ExitStatus.CONFIGURATION
    assert tree(node) == before


def test_detach_refuses_while_the_configuration_names_the_module(station, stand_in):
    station.attach(stand_in("1", 1), "1")
    station.node.write_configuration("  mod_megaphone: {}\n")
    with pytest.raises(CommandError, match=r"ejabberd.yml:7 names .* not boot") as caught:
        station.detach()
    assert caught.value.status == ExitStatus.CONFIGURATION
    assert station.status()["part"] == 1


def test_the_operators_own_file_counts(station, stand_in):
    package = stand_in("1", 1)
    own = station.node.base / "modules.d/mod_megaphone.yml"
    own.write_text("modules:\n  mod_megaphone:\n    python: /other/python\n")
    with pytest.raises(CommandError, match=r"modules.d/mod_megaphone.yml configures") as caught:
        station.attach(package, "1")
    assert caught.value.status == ExitStatus.CONFIGURATION
    own.write_text(f"modules:\n  mod_megaphone:\n    python: {sys.executable}\n")
    assert station.attach(package, "1").action == "installed"
    assert station.attach(package, "1").action == "unchanged"
    with pytest.raises(CommandError, match="workers: None") as caught:
        station.attach(package, "1", options={"workers": 2})
    with pytest.raises(CommandError, match="would not boot again") as caught:
        station.detach()
    assert caught.value.status == ExitStatus.CONFIGURATION


def test_two_at_once_do_not_meet(station, stand_in):
    with (
        installation.target.find(station.node.ejabberdctl, None).directory.locked(),
        pytest.raises(CommandError, match="another attach or detach"),
    ):
        station.attach(stand_in("1", 1), "1")


def test_a_module_directory_that_ejabberd_cannot_write(station, stand_in):
    station.node.modules.mkdir()
    try:
        with pytest.raises(CommandError, match=f"cannot write {station.node.modules}") as caught:
            station.attach(stand_in("1", 1), "1")
        assert caught.value.status == ExitStatus.PERMISSION
    finally:
        station.node.modules.rmdir()


def test_another_user_is_refused(station):
    code = (
        "import sys\n"
        "from bridge.attach import installation\n"
        "from bridge.cli.errors import CommandError\n"
        "try:\n"
        f"    installation.plan(installation.AttachRequest({station.node.ejabberdctl!r}))\n"
        "except CommandError as error:\n"
        "    sys.exit(int(error.status))\n"
    )
    done = subprocess.run(
        (sys.executable, "-c", code), user="nobody", cwd="/", timeout=60, check=False
    )
    assert done.returncode == ExitStatus.PERMISSION
