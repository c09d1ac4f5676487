"""The node that this program belongs to: its name, its cluster, its functions.

`node()` and `nodes()` are those of OTP's module `erlang`. What may be reached there, the options of
mod_megaphone say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from erlang_port.otp.gen import CALL_TIMEOUT
from erlang_port.otp.runtime import Runtime

if TYPE_CHECKING:
    from erlang_port.etf import Atom, Term


def node() -> Atom:
    """The node's name; `nonode@nohost` while there is no connection to one."""
    return Runtime.here().node


async def nodes() -> list[Term]:
    """The other nodes of the cluster: those that are connected and that `allowed_nodes` names.

    Raises:
        Exit: `noconnection` or `timeout`.
    """
    return await Runtime.here().at_node().nodes()


async def rpc(module: str, function: str, args: list[Term], timeout: float = CALL_TIMEOUT) -> Term:
    """Apply a function at the node that `allowed_functions` names; what it returned.

    Args:
        module: Its module.
        function: Its name.
        args: Its arguments.
        timeout: Seconds; 30 at most.

    Raises:
        Exit: `{refused, Text}`: it is not allowed; `{crash, Text}`: it raised; `{badarg, Text}`: an
            argument holds an atom that the node does not know; `timeout` or `noconnection`.
    """
    return await Runtime.here().at_node().rpc(module, function, args, timeout)
