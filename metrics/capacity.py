"""How many sessions the node could hold, by each resource, from what a session costs now.

Theory of operation. What a resource is used for grows with the sessions: `used = base + cost *
sessions`. The cost is the slope of that line over the recent past (`regression.py`), the capacity
the number of sessions at which what is used reaches what may be used:

    capacity = sessions + (usable - used) / cost

As long as the number of sessions has hardly changed there is no slope, and the cost is what is
used divided by the sessions. That counts what the node needs without any session as theirs, so it
is too high, and the capacity too low: an estimate that errs errs to the safe side. docs/capacity.md
has the method's error.

A VM keeps a good part of what is resident after logouts: held against the sessions, they would seem
to take nothing. Where that line is flat although what the VM has allocated grows with the sessions,
the latter counts, scaled to what has to be resident for it.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from metrics.regression import Slope, slope

if TYPE_CHECKING:
    from collections.abc import Callable

Resource = Literal["memory", "cpu", "processes", "ports", "file_descriptors"]
Method = Literal["trend", "average"]

#: Seconds that an observation counts, and between two of them.
WINDOW: Final = 3600.0
INTERVAL: Final = 10.0

#: The least share of the most sessions in the window by which they must have changed for a trend,
#: and the least number.
MIN_SPREAD: Final = 0.05
MIN_CHANGE: Final = 10
#: Fewer sessions say nothing about what one costs.
MIN_SESSIONS: Final = 5

#: Resident memory that grows by less than this share of what allocated memory does is not growing
#: but kept.
FLAT: Final = 0.5

#: Seconds over which the processors' use is smoothed.
SMOOTH: Final = 600.0
#: The share of the processors that must be in use for a trend, and for an average; with so many
#: sessions the average may be told without.
MIN_BUSY: Final = 0.1
MIN_BUSY_AVERAGE: Final = 0.05
MANY_SESSIONS: Final = 1000

#: The share of each limit that may be used: beyond it a node works badly long before it is full.
USABLE: Final[dict[Resource, float]] = {
    "memory": 0.95,
    "cpu": 0.8,
    "processes": 0.95,
    "ports": 0.95,
    "file_descriptors": 0.95,
}


class Usage(NamedTuple):
    """What is used of a resource and how much there is; in bytes, in cores, or in pieces."""

    used: float
    limit: float


class Observation(NamedTuple):
    """The node at one time.

    Attributes:
        time: Seconds, of the monotonic clock.
        sessions: Sessions of this node.
        usage: By resource; what is not known is not there.
        allocated: Bytes that the VM has allocated, or None; those of `usage` are resident.
    """

    time: float
    sessions: int
    usage: dict[Resource, Usage]
    allocated: float | None


class Estimate(NamedTuple):
    """What one resource allows.

    Attributes:
        sessions: The sessions now.
        used, limit: As in `Usage`, now; of memory what has to be resident, of the processors the
            median of the last `SMOOTH` seconds.
        usable: How much of the limit counts as usable.
        cost: What one session takes.
        capacity: Simultaneous sessions; `low` is that at the dearer end of the costs that were
            seen, `high` that at the cheaper end, or None: there is no telling.
        method: Where the cost comes from: the trend, or the average, which is too high.
    """

    resource: Resource
    sessions: int
    used: float
    limit: float
    usable: float
    cost: float
    capacity: float
    low: float
    high: float | None
    method: Method


class _Line(NamedTuple):
    """What sessions cost, and a point that the line goes through."""

    cost: Slope
    sessions: float
    used: float
    method: Method

    def sessions_at(self, used: float, cost: float) -> float:
        return max(0.0, self.sessions + (used - self.used) / cost)


class Capacity:
    """Keeps the observations of the last `WINDOW` seconds, and estimates from them."""

    def __init__(self) -> None:
        self._seen: deque[Observation] = deque(maxlen=int(WINDOW / INTERVAL) + 1)

    def observe(self, observation: Observation) -> None:
        """Take the newest observation; those that are too old are forgotten."""
        if self._seen and observation.time < self._seen[-1].time:
            self._seen.clear()
        self._seen.append(observation)
        while self._seen[0].time < observation.time - WINDOW:
            self._seen.popleft()

    def forget(self) -> None:
        """Forget everything: what follows is another node's life."""
        self._seen.clear()

    def estimates(self) -> list[Estimate]:
        """What each resource allows, the one that ends first at the beginning.

        A resource of which nothing is known, or of which sessions take nothing, is not there.
        """
        if not self._seen:
            return []
        found = (self._estimate(resource) for resource in self._seen[-1].usage)
        return sorted(
            (estimate for estimate in found if estimate is not None),
            key=lambda estimate: estimate.capacity,
        )

    def _estimate(self, resource: Resource) -> Estimate | None:
        lines = {"memory": self._memory, "cpu": self._processors}
        line = lines.get(resource, partial(self._counted, resource))()
        if line is None or line.cost.middle <= 0:
            return None
        limit = self._seen[-1].usage[resource].limit
        usable = limit * USABLE[resource]
        # What it has held it can hold.
        least = 0 if resource == "cpu" else self._held(resource, usable)
        low, middle = (
            max(least, line.sessions_at(usable, cost))
            for cost in (max(line.cost.high, line.cost.middle), line.cost.middle)
        )
        high = None
        if line.method == "trend" and line.cost.low > 0:
            high = max(middle, line.sessions_at(usable, line.cost.low))
        return Estimate(
            resource=resource,
            sessions=self._seen[-1].sessions,
            used=line.used,
            limit=limit,
            usable=usable,
            cost=line.cost.middle,
            capacity=middle,
            low=low,
            high=high,
            method=line.method,
        )

    def _held(self, resource: Resource, usable: float) -> int:
        return max(
            (
                one.sessions
                for one in self._seen
                if resource in one.usage and one.usage[resource].used <= usable
            ),
            default=0,
        )

    def _counted(self, resource: Resource) -> _Line | None:
        newest = self._seen[-1]
        used = newest.usage[resource].used
        trend = self._trend_of(resource)
        if trend is not None:
            return _Line(trend, newest.sessions, used, "trend")
        return _average(newest.sessions, used)

    def _memory(self) -> _Line | None:
        newest = self._seen[-1]
        line = self._counted("memory")
        if line is None or newest.allocated is None:
            return line
        # What is resident for a byte that is allocated, when the least was kept beside it.
        share = min(
            one.usage["memory"].used / one.allocated
            for one in self._seen
            if "memory" in one.usage and one.allocated
        )
        needed = min(line.used, share * newest.allocated)
        if line.method == "average":
            return _average(newest.sessions, needed)
        allocated = self._trend(lambda one: one.allocated)
        if allocated is not None and line.cost.middle < FLAT * share * allocated.middle:
            return _Line(
                Slope(*(share * each for each in allocated)), newest.sessions, needed, "trend"
            )
        return line

    def _processors(self) -> _Line | None:
        newest = self._seen[-1]
        recent = [
            (one.sessions, one.usage["cpu"].used)
            for one in self._seen
            if "cpu" in one.usage and one.time >= newest.time - SMOOTH
        ]
        sessions, used = (median(values) for values in zip(*recent, strict=True))
        busy = used / newest.usage["cpu"].limit
        if busy >= MIN_BUSY:
            trend = self._trend_of("cpu")
            if trend is not None:
                return _Line(trend, sessions, used, "trend")
        if busy >= MIN_BUSY_AVERAGE or sessions >= MANY_SESSIONS:
            return _average(sessions, used)
        return None

    def _trend_of(self, resource: Resource) -> Slope | None:
        return self._trend(lambda one: one.usage[resource].used if resource in one.usage else None)

    def _trend(self, used: Callable[[Observation], float | None]) -> Slope | None:
        """The slope, if the sessions have changed enough and take more the more they are."""
        counts = [one.sessions for one in self._seen]
        spread = max(counts) - min(counts)
        if spread < MIN_CHANGE or spread < MIN_SPREAD * max(counts):
            return None
        points = ((float(one.sessions), used(one)) for one in self._seen)
        found = slope([(x, y) for x, y in points if y is not None])
        return found if found is not None and found.middle > 0 else None


def _average(sessions: float, used: float) -> _Line | None:
    if sessions < MIN_SESSIONS:
        return None
    each = used / sessions
    return _Line(Slope(each, each, each), sessions, used, "average")
