"""The same scenarios with OTP's application on a live VM and with this one: the same is seen."""

import base64
import os
import subprocess

import pytest

from erlang_port.etf import decode, encode
from tests.erlang_port.live import PROGRAMS
from tests.erlang_port.otp.application_runs import Run
from tests.erlang_port.otp.application_scenarios import LAST_SCENARIOS, SCENARIOS
from tests.support.tools import require_tool


def started(file, scenarios):
    """A VM that plays scenarios and writes what is seen to a file, line by line."""
    encoded = base64.b64encode(encode(scenarios))
    return subprocess.Popen(
        [require_tool("escript"), PROGRAMS / "application.escript", file, encoded],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "ERL_CRASH_DUMP": "/dev/null"},
    )


def written(file):
    return [decode(base64.b64decode(line)) for line in file.read_bytes().splitlines()]


@pytest.fixture(scope="module")
def in_otp(tmp_path_factory):
    """What is seen of each scenario in OTP."""
    file = tmp_path_factory.mktemp("otp") / "seen"
    with started(file, list(SCENARIOS.values())) as vm:
        _, errors = vm.communicate(timeout=60)
    assert vm.returncode == 0, errors
    seen = [[]]
    for term in written(file):
        seen[-1].append(term)
        if term == "over":
            seen.append([])
    return dict(zip(SCENARIOS, seen, strict=False))


@pytest.mark.parametrize("name", SCENARIOS)
async def test_what_is_seen_is_what_otp_shows(in_otp, name):
    seen = decode(encode(await Run(SCENARIOS[name]).run()))
    assert seen == in_otp[name]


@pytest.mark.parametrize("name", LAST_SCENARIOS)
async def test_the_end_of_all_is_as_otp_ends_the_vm(name, tmp_path):
    file = tmp_path / "seen"
    with started(file, [LAST_SCENARIOS[name]]) as vm:
        _, errors = vm.communicate(timeout=60)
    assert b"application_terminated,a" in errors
    seen = decode(encode(await Run(LAST_SCENARIOS[name]).run_to_the_end()))
    assert seen == written(file)
