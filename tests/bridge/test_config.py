import functools
import operator
import re
from pathlib import Path

import pytest

from bridge import config

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.upper().startswith("MEGAPHONE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "megaphone.toml"
    monkeypatch.setenv("MEGAPHONE_CONFIG", str(path))
    return path


def documented() -> dict[str, str]:
    row = re.compile(r"^\| `([a-zA-Z_.]+)` \| [^|]* \| ([^|]*) \| ([^|]*) \|$", re.MULTILINE)
    return {key: default.strip() for key, default, _ in row.findall(DOCS.read_text())}


def test_every_key_is_documented_and_no_other() -> None:
    assert documented().keys() == config.keys().keys()


def test_every_key_has_a_description() -> None:
    assert all(config.keys().values())


def test_the_documented_defaults_are_the_defaults() -> None:
    values = config.load().model_dump()
    # A table of the operator's own, with what must be there only.
    values["servers"]["NAME"] = config.Server(start="module:Class").model_dump()
    for key, default in documented().items():
        if key in {
            "workers.count",
            "servers.NAME.start",
            "sidecar.state_dir",
            "sidecar.control_socket",
        }:
            continue
        value = functools.reduce(operator.getitem, key.split("."), values)
        shown = {
            "True": "true",
            "False": "false",
            "()": "[]",
            "10.0": "10",
            "5.0": "5",
            "None": "none",
        }.get(str(value), str(value))
        assert default.replace("`", "").split(" ")[0] == shown, key


def test_one_worker_less_than_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, count in ((1, 1), (2, 1), (8, 7)):
        monkeypatch.setattr(config.os, "sched_getaffinity", lambda _, n=cores: set(range(n)))
        assert config.load().workers.count == count


def test_a_variable_wins_over_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("[workers]\ncount = 3\nbatch_timeout = 2.5\n")
    monkeypatch.setenv("MEGAPHONE_WORKERS__COUNT", "5")
    workers = config.load().workers
    assert (workers.count, workers.batch_timeout) == (5, 2.5)


def test_a_list_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEGAPHONE_HTTP__ALLOWED_HOSTS", '["Monitor.example.org"]')
    assert config.load().http.allowed_hosts == ("monitor.example.org",)
    monkeypatch.setenv("MEGAPHONE_HTTP__ALLOWED_HOSTS", "monitor.example.org")
    with pytest.raises(config.ConfigurationError, match="JSON"):
        config.load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[workers]\ncont = 1\n", "workers.cont: there is no such key"),
        ("[wokers]\ncount = 1\n", "wokers: there is no such key"),
        ("workers = 3\n", "workers: "),
        ("[workers]\ncount = 0\n", "workers.count: .*greater than or equal to 1"),
        ('[workers]\ncount = "many"\n', "workers.count: .*valid integer"),
        ("[http]\nport = 65536\n", "http.port: "),
        ('[log]\nlevel = "loud"\n', "log.level: .*'debug', 'info', 'warning' or 'error'"),
        ("[workers\n", "not TOML: .*line 1"),
        ("\ufffd".encode("utf-16").decode("latin-1"), "not TOML"),
    ],
)
def test_an_error_names_the_file_and_the_key(file: Path, text: str, message: str) -> None:
    file.write_text(text, "latin-1" if "\xfe" in text else "utf-8")
    with pytest.raises(config.ConfigurationError, match=f"^{re.escape(str(file))}: {message}"):
        config.load()


@pytest.mark.usefixtures("file")
def test_a_file_that_is_not_there() -> None:
    with pytest.raises(config.ConfigurationError, match=r"MEGAPHONE_CONFIG.*No such file"):
        config.load()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MEGAPHONE_WORKERS__COUNT", "x", "valid integer"),
        ("MEGAPHONE_WORKERS__CONT", "1", "there is no such key"),
        ("MEGAPHONE_WOKERS__COUNT", "1", "there is no such key"),
        ("MEGAPHONE_WORKERS", "1", "valid dictionary"),
    ],
)
def test_an_error_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(config.ConfigurationError, match=f"variable {name}: .*{message}"):
        config.load()


def test_other_variables_are_none_of_its_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEGAPHONE_SOMETHING", "1")
    config.load()


SIDECAR = {"MEGAPHONE_SIDECAR__SECRET_FILE": "/run/secret"}
SOCKET = {"MEGAPHONE_SIDECAR__SOCKET": "/run/node.sock"}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (SOCKET, "secret_file is missing"),
        (SIDECAR | SOCKET | {"MEGAPHONE_SIDECAR__HOST": "a.test"}, "both socket and host"),
        (SIDECAR | {"MEGAPHONE_SIDECAR__HOST": "192.0.2.1"}, "set tls, or allow_plaintext"),
    ],
)
def test_what_does_not_go_together_is_told_with_the_variables(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    told = rf"^environment variables MEGAPHONE_SIDECAR__\*: .*{message}"
    with pytest.raises(config.ConfigurationError, match=told):
        config.load()


def test_what_does_not_go_together_in_a_file(file: Path) -> None:
    file.write_text('[sidecar]\nsocket = "/run/node.sock"\n')
    told = f"^{re.escape(str(file))}: sidecar: secret_file is missing"
    with pytest.raises(config.ConfigurationError, match=told):
        config.load()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SOCKET", "node.sock"),
        ("SECRET_FILE", "secret"),
        ("STATE_DIR", "."),
        ("CONTROL_SOCKET", "control.sock"),
        ("CA_FILE", "ca.pem"),
        ("CERTIFICATE_FILE", "own.pem"),
        ("PORT", "0"),
        ("HOST", ""),
        ("IDENTITY", "two words"),
        ("IDENTITY", "line\n"),
        ("IDENTITY", "x" * 65),
        ("TLS", "perhaps"),
    ],
)
def test_an_error_of_the_sidecar_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"MEGAPHONE_SIDECAR__{name}", value)
    with pytest.raises(config.ConfigurationError, match=f"variable MEGAPHONE_SIDECAR__{name}: "):
        config.load()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_needs_no_tls(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    for name, value in (SIDECAR | {"MEGAPHONE_SIDECAR__HOST": host}).items():
        monkeypatch.setenv(name, value)
    sidecar = config.load().sidecar
    assert sidecar.configured
    assert (sidecar.host, sidecar.port, sidecar.tls) == (host, 8471, False)


@pytest.mark.parametrize("way", ["TLS", "ALLOW_PLAINTEXT"])
def test_another_machine_needs_it_or_leave(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    wanted = SIDECAR | {"MEGAPHONE_SIDECAR__HOST": "node.test", f"MEGAPHONE_SIDECAR__{way}": "1"}
    for name, value in wanted.items():
        monkeypatch.setenv(name, value)
    assert config.load().sidecar.host == "node.test"


def test_what_systemd_has_made_is_where_things_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/other")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/other")
    sidecar = config.load().sidecar
    assert not sidecar.configured
    assert sidecar.state_dir == Path("/var/lib/other")
    assert sidecar.control_socket == Path("/run/other/control.sock")
