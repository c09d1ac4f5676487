"""A private ejabberd for the demo, the tests and development.

It runs the installed package as the current user, in one directory of its own, on loopback, and
leaves a system-wide ejabberd alone: own configuration, database, logs, cookie, contributed modules,
node name and ports, and no epmd.
"""

from bridge.embedded_node.errors import EmbeddedNodeError
from bridge.embedded_node.node import EmbeddedNode, NodeStatus
from bridge.embedded_node.settings import NodeSettings

__all__ = ["EmbeddedNode", "EmbeddedNodeError", "NodeSettings", "NodeStatus"]
