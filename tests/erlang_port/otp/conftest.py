"""A runtime with a node that a stand-in for the port plays."""

import pytest

from erlang_port.otp.remote import attach
from erlang_port.otp.runtime import Runtime
from tests.erlang_port.otp.port_stand_in import PortStandIn


@pytest.fixture
async def runtime():
    return Runtime.here()


@pytest.fixture
async def port():
    return PortStandIn()


@pytest.fixture
async def node(runtime, port):
    return attach(runtime, port, name="ejabberd@here")
