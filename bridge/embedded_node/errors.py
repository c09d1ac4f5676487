"""The error of a private node."""

from __future__ import annotations

from bridge.cli.errors import CommandError


class EmbeddedNodeError(CommandError):
    """A private node could not be started, stopped or asked."""
