"""gen_fsm beside OTP's own, scenario by scenario."""

import pytest

from erlang_port.otp import gen_fsm
from tests.erlang_port.otp.compare import actors, scripted

FILE = "gen_fsm.terms"


@pytest.fixture(scope="module")
def otp():
    return actors.played_by_otp("gen_fsm", FILE)


@pytest.mark.parametrize("callbacks", ["plain", "async"])
@pytest.mark.parametrize("name", actors.names(FILE))
async def test_as_in_otp(otp, name, callbacks):
    steps, seen = otp[name]
    world = actors.World(gen_fsm, scripted.FSMS, callbacks == "async")
    assert await actors.play(world, steps) == seen
