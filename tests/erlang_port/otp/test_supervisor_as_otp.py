"""The same scenarios with OTP's supervisor on a live VM and with this one: the same is seen."""

import base64
import subprocess

import pytest

from erlang_port.etf import decode, encode
from tests.erlang_port.live import PROGRAMS
from tests.erlang_port.otp.processes import as_process
from tests.erlang_port.otp.supervisor_runs import Run
from tests.erlang_port.otp.supervisor_scenarios import SCENARIOS
from tests.support.tools import require_tool

#: What OTP 25 lets pass as this one does, and OTP 27 refuses.
NO_MORE = {"auto_shutdown of a simple one"}


@pytest.fixture(scope="module")
def in_otp():
    """What is seen of each scenario in OTP."""
    escript = require_tool("escript")
    encoded = base64.b64encode(encode(list(SCENARIOS.values())))
    done = subprocess.run(
        [escript, PROGRAMS / "supervisor.escript", encoded], capture_output=True, timeout=60
    )
    assert done.returncode == 0, done
    seen = decode(base64.b64decode(done.stdout.splitlines()[-1]))
    return dict(zip(SCENARIOS, seen, strict=True))


@pytest.mark.parametrize("name", SCENARIOS)
@as_process
async def test_what_is_seen_is_what_otp_shows(in_otp, name):
    seen = decode(encode(await Run().run(SCENARIOS[name])))
    if name in NO_MORE and in_otp[name][0][0] != "started":
        pytest.skip("this OTP refuses it")
    assert seen == in_otp[name]
