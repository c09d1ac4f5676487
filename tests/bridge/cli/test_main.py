import json
import os
import signal
import subprocess
import sys

import pytest
import typer

from bridge.cli import main as main_module
from bridge.cli.errors import CommandError, ExitStatus
from bridge.version import __version__

COMMANDS = {
    *("attach", "detach", "status", "capacity", "broadcast", "sidecar", "ready", "demo"),
    *("dashboard", "node"),
}


def megaphone(*words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "bridge.cli.main", *words],
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
        timeout=30,
    )


@pytest.fixture
def failing(monkeypatch):
    """Makes `megaphone fail` raise what is given."""

    def use(error):
        app = typer.Typer(pretty_exceptions_enable=False)

        @app.callback()
        def root() -> None: ...

        @app.command()
        def fail(_json: bool = typer.Option(False, "--json")) -> None:
            raise error

        monkeypatch.setattr(main_module, "app", app)

    return use


def test_the_version_is_told():
    outcome = megaphone("--version")
    assert outcome.stdout.decode() == f"megaphone {__version__}\n"
    assert outcome.returncode == ExitStatus.OK


def test_every_command_is_there(run):
    status, out, _ = run("--help")
    assert status == ExitStatus.OK
    for command in COMMANDS:
        assert command in out
    for command in COMMANDS:
        assert run(command, "--help")[0] == ExitStatus.OK
    assert set(main_module._COMMANDS) == COMMANDS


def test_no_command_shows_the_help_and_is_a_usage_error(run):
    status, out, err = run()
    assert status == ExitStatus.USAGE
    assert "attach" in out + err
    assert "megaphone:" not in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["unknown"], "megaphone: No such command 'unknown'. see: megaphone --help\n"),
        (["status", "--nope"], "megaphone: No such option: --nope. see: megaphone status --help\n"),
    ],
)
def test_a_wrong_command_line_is_one_line_with_advice(run, words, told):
    assert run(*words) == (ExitStatus.USAGE, "", told)


def test_a_failure_is_one_line_and_its_status(run, failing):
    failing(CommandError("the node is down", "start it", ExitStatus.NODE_NOT_RUNNING))
    assert run("fail") == (3, "", "megaphone: the node is down. start it\n")


def test_a_failure_is_a_document_too_with_json(run, failing):
    failing(CommandError("der Knoten schläft", "weck ihn 👋", ExitStatus.REFUSED))
    status, out, err = run("fail", "--json")
    assert status == ExitStatus.REFUSED
    assert json.loads(out) == {
        "error": {"what": "der Knoten schläft", "remedy": "weck ihn 👋", "status": 10}
    }
    assert err == "megaphone: der Knoten schläft. weck ihn 👋\n"


def test_what_follows_two_dashes_is_no_option():
    assert main_module._wants_json(["broadcast", "--json"])
    assert not main_module._wants_json(["broadcast", "--", "--json"])


def test_a_bug_is_one_line_and_shows_its_traceback_only_when_asked(run, failing, monkeypatch):
    failing(ValueError("of two\nlines"))
    status, _, err = run("fail")
    assert status == ExitStatus.FAILURE
    assert err.count("\n") == 1
    assert "ValueError: of two lines" in err
    monkeypatch.setenv("MEGAPHONE_DEBUG", "1")
    assert "Traceback" in run("fail")[2]


def test_ctrl_c_has_its_own_status(run, failing):
    failing(KeyboardInterrupt())
    assert run("fail")[0] == ExitStatus.INTERRUPTED


def test_output_is_utf8_whatever_the_locale():
    outcome = megaphone("zoë👋", LC_ALL="C", LANG="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert "zoë👋" in outcome.stderr.decode("utf-8")


def test_a_reader_that_has_gone_is_no_traceback():
    reader, writer = os.pipe()
    os.close(reader)
    outcome = subprocess.run(
        [sys.executable, "-m", "bridge.cli.main", "--version"],
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert outcome.returncode == ExitStatus.FAILURE
    assert outcome.stderr == b""


def test_sigterm_unwinds_what_the_command_has_begun():
    program = """
import sys, time, typer
from bridge.cli import main
app = typer.Typer(pretty_exceptions_enable=False)
@app.callback()
def root() -> None: ...
@app.command()
def wait() -> None:
    try:
        print("waiting", flush=True)
        time.sleep(60)
    finally:
        print("ended", flush=True)
main.app = app
main.main(["wait"])
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"waiting\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == b"ended\n"
    assert process.returncode == ExitStatus.TERMINATED
