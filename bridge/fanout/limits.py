"""Bounds that the port program and its workers keep alike; imports nothing, so both can."""

from typing import Final

#: Templates that one broadcast may have: a message's body, its subject, and room for more.
MAX_TEMPLATES: Final = 16
