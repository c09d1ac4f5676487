"""The status as it was a moment ago: asked for once, for everybody who wants it."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

#: What moves though nothing happens: clocks, and what the question itself costs.
_RESTLESS: Final = frozenset(
    {"connected_seconds", "credit_bytes", "loop_lag_seconds", "rss_bytes", "uptime_seconds"}
)


class Snapshot(NamedTuple):
    """The status at one time.

    Attributes:
        body: The document, as one line of JSON.
        change: A number that is another one when something has happened in between.
    """

    body: bytes
    change: int


class Snapshots:
    """Takes them, one at a time.

    Args:
        status: Gives the whole status, as JSON can hold it.
    """

    def __init__(self, status: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self._status = status
        self._taken = float("-inf")
        self._last = Snapshot(b"", 0)
        self._settled: object = None
        self._lock = asyncio.Lock()

    async def get(self, age: float) -> Snapshot:
        """Give the last one if it is no older than `age`, in seconds, else a new one."""
        async with self._lock:
            if time.monotonic() - self._taken > age:
                document = await self._status()
                settled = _without_the_restless(document)
                change = self._last.change + (settled != self._settled)
                self._last = Snapshot(json.dumps(document, ensure_ascii=False).encode(), change)
                self._settled = settled
                self._taken = time.monotonic()
        return self._last


def _without_the_restless(value: object) -> object:
    match value:
        case dict():
            return {
                key: _without_the_restless(part)
                for key, part in value.items()
                if key not in _RESTLESS
            }
        case list():
            return [_without_the_restless(part) for part in value]
    return value
