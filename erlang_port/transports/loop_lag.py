"""How late an event loop is: what a callback that blocks does to everything else on it."""

from __future__ import annotations

from collections import deque
from typing import Final

#: How often the loop is to be looked at, seconds.
INTERVAL: Final = 0.25
#: Seconds for which the worst is remembered: several scrapes of a metric.
WINDOW: Final = 60.0
#: Seconds of which only the worst is kept.
_STEP: Final = 1.0


class LoopLag:
    """Looks at a loop every `INTERVAL`, and remembers the worst of the last `WINDOW` seconds.

    Times are in seconds, of the monotonic clock.

    Args:
        now: When the first interval begins.
    """

    def __init__(self, now: float) -> None:
        self._looked = now
        # When a step began, and the worst lag in it; ascending times, no lag of zero.
        self._worst: deque[tuple[float, float]] = deque()

    def restart(self, now: float) -> None:
        """Begin an interval; what came before it is not counted."""
        self._looked = now

    def look(self, now: float) -> float:
        """End an interval and begin the next; how late this look is."""
        lag = self.late(now)
        self._looked = now
        if lag:
            if self._worst and now - self._worst[-1][0] < _STEP:
                begun, worst = self._worst[-1]
                self._worst[-1] = begun, max(worst, lag)
            else:
                self._worst.append((now, lag))
        while self._worst and self._worst[0][0] < now - WINDOW:
            self._worst.popleft()
        return lag

    def late(self, now: float) -> float:
        """How late the next look is already; may be asked in any thread."""
        return max(0.0, now - self._looked - INTERVAL)

    def worst(self, now: float) -> float:
        """The worst of the last `WINDOW` seconds."""
        kept = [lag for begun, lag in self._worst if begun >= now - WINDOW]
        return max(kept, default=self.late(now))
