"""Reading ejabberd's log."""

import re

from bridge.embedded_node import EmbeddedNode

#: What OTP's distribution says when a client of the node (erl_call, ejabberdctl) is gone before its
#: connection is up (dist_util); nothing of the node's own.
_NOISE = "** Cannot get connection id for node"


def log(node: EmbeddedNode) -> str:
    """The node's log up to now: ejabberd writes it with a delay of seconds."""
    node.eval("[logger_std_h:filesync(Id) || Id <- logger:get_handler_ids()]")
    return node.log()


def errors(log: str) -> list[str]:
    """The log's entries of level error and above, each with the lines that follow it."""
    entries = re.split(r"^(?=\d{4}-\d\d-\d\d \d\d:)", log, flags=re.MULTILINE)
    return [
        entry
        for entry in entries
        if re.search(r"\[(error|critical)\]|CRASH REPORT", entry) and _NOISE not in entry
    ]
