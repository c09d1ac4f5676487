"""Life on a node; that it lives is in tests/e2e/test_dashboard.py."""

from types import SimpleNamespace

import pytest

from bridge.cli.errors import CommandError
from bridge.cli.traffic import Traffic
from bridge.embedded_node import ports


async def test_a_node_that_takes_nobody_in_ends_it(tmp_path):
    """Nobody listens where the node was; its accounts, and its ejabberdctl, are not asked for."""
    gone = SimpleNamespace(
        PASSWORD="secret",
        c2s_port=ports.choose(1)[0],
        register=lambda name: f"{name}@localhost",
        ejabberdctl="/bin/true",
        log_path=tmp_path / "ejabberd.log",
    )
    with pytest.raises(CommandError, match="5 logins in a row failed") as caught:
        await Traffic(gone).run()
    assert str(tmp_path) in caught.value.remedy
