"""What all behaviours have from `server`; system messages are tested in test_sys.py."""

import pytest

from erlang_port.otp import gen_server, sys
from erlang_port.otp.gen_server import GenServer, Ok
from erlang_port.otp.runtime import Runtime, self
from erlang_port.otp.server import describe
from tests.erlang_port.otp.test_process import end_of


class Trapping(GenServer[list]):
    """Traps exits, and notes what comes of them and of its end."""

    def init(self, args):
        self_().trap_exit = True
        return Ok(args)

    def handle_info(self, info, state):
        state.append(info)
        return gen_server.NoReply(state)

    def terminate(self, reason, state):
        state.append(("terminate", reason))


def self_():
    return self()


@pytest.mark.parametrize("suspended", [False, True])
async def test_the_end_of_its_parent_is_its_own_whatever_it_traps(suspended):
    seen, started = [], []
    other = Runtime.here().idle("other")

    async def body():
        server = await gen_server.start_link(Trapping, seen)
        started.append(server)
        if suspended:
            await sys.suspend(server)
        server.exit("by_hand", other)
        raise gen_server.Exit("broken")

    await end_of(Runtime.here().spawn(body))
    assert await end_of(started[0]) == "broken"
    by_hand = [] if suspended else [("EXIT", other, "by_hand")]
    assert seen == [*by_hand, ("terminate", "broken")]


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("broken", "broken"),
        (("broken", "secret"), "{broken, ...}"),
        ((("python_error", b"KeyError", b"why"), []), "KeyError: why"),
        ({"secret": 1}, "dict"),
        ((1, 2), "tuple"),
    ],
)
def test_reasons_in_the_log(reason, text):
    assert describe(reason) == text
