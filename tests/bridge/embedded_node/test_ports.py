import socket

import pytest

from bridge.embedded_node import EmbeddedNodeError, ports


def test_chosen_ports_differ_and_are_free():
    chosen = ports.choose(20)
    assert len(set(chosen)) == 20
    assert all(ports.is_free(port) for port in chosen)


def test_a_port_that_somebody_listens_on_is_not_free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not ports.is_free(server.getsockname()[1])


def test_no_free_port_is_an_error(monkeypatch):
    monkeypatch.setattr(ports, "is_free", lambda _port: False)
    with pytest.raises(EmbeddedNodeError, match="no free TCP port"):
        ports.choose(1)
