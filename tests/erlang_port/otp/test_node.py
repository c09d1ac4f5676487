"""The node, as a program without one has it; with one it is in tests/e2e/test_cluster.py."""

import pytest

from erlang_port.otp.node import node, nodes, rpc
from erlang_port.otp.reasons import Exit


async def test_without_a_connection_it_has_the_name_of_none():
    assert node() == "nonode@nohost"


async def test_without_a_connection_nothing_can_be_asked():
    for asked in (nodes(), rpc("lists", "reverse", [[1]])):
        with pytest.raises(Exit) as caught:
            await asked
        assert caught.value.reason == "noconnection"
