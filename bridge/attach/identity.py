"""Doing the file work as the node's user.

The node must be able to write what attach writes, and root must not follow links that the node's
user can plant in directories of its own: so root becomes that user for as long as it touches them.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from bridge.cli.errors import CommandError, ExitStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.attach.node_process import NodeProcess


def refuse_other_user(node: NodeProcess) -> None:
    """Refuses a user who is neither root nor the node's.

    Raises:
        CommandError: PERMISSION.
    """
    if os.geteuid() not in {0, node.uid}:
        raise CommandError(
            f"the node runs as {node.user}, and this is another user",
            f"run megaphone as root or as {node.user}",
            ExitStatus.PERMISSION,
        )


@contextlib.contextmanager
def acting_as(node: NodeProcess) -> Iterator[None]:
    """Makes every file operation inside it the node's user's; nothing to do when it is already.

    Effective ids only, so that they can be taken back; no thread may do file work meanwhile.
    """
    if os.geteuid() == node.uid:
        yield
        return
    uid, gid, groups = os.geteuid(), os.getegid(), os.getgroups()
    os.setgroups(node.groups)
    os.setegid(node.gid)
    os.seteuid(node.uid)
    try:
        yield
    finally:
        os.seteuid(uid)
        os.setegid(gid)
        os.setgroups(groups)
