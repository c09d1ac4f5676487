"""How many sessions the node could hold, by each resource, from what a session costs now.

Theory of operation. What a resource is used for grows with the sessions: `used = base + cost *
sessions`. The cost is the slope of that line over the recent past (`regression.py`), the capacity
the number of sessions at which what is used reaches what may be used:

    capacity = sessions + (usable - used) / cost

As long as the number of sessions has hardly changed there is no slope, and the cost is what is
used divided by the sessions. That counts what the node needs without any session as theirs, so it
is too high, and the capacity too low: an estimate that errs errs to the safe side. docs/capacity.md
has the method's error.

A VM gives little of what is resident back after logouts: held against the sessions, they would seem
to take nothing. Where that line is flat although what the VM has allocated grows with the sessions,
the latter counts, scaled to what is resident now.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from metrics.regression import Slope, slope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Resource = Literal["memory", "cpu", "processes", "ports", "file_descriptors"]
Method = Literal["trend", "average"]

#: Seconds that an observation counts, and between two of them.
WINDOW: Final = 3600.0
INTERVAL: Final = 10.0

#: The least share of the most sessions in the window by which they must have changed for a trend,
#: and the least number.
MIN_SPREAD: Final = 0.05
MIN_CHANGE: Final = 10
#: Resident memory that grows by less than this share of what allocated memory does is not growing
#: but kept.
FLAT: Final = 0.5
#: Fewer sessions say nothing about what one costs.
MIN_SESSIONS: Final = 5

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
        used, limit: As in `Usage`, now.
        usable: How much of the limit counts as usable.
        cost: What one session takes.
        capacity: Simultaneous sessions; `low` and `high` are those at the dearer and the cheaper
            end of the costs that were seen.
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
    high: float
    method: Method

    def used_at(self, sessions: float) -> float:
        """What would be used of the resource with so many sessions."""
        return self.used + self.cost * (sessions - self.sessions)


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
        newest = self._seen[-1]
        used, limit = newest.usage[resource]
        cost = self._trend(resource)
        method: Method = "trend"
        if cost is None or cost.middle <= 0:
            cost, method = _average(newest.sessions, used), "average"
        if cost is None or cost.middle <= 0:
            return None
        usable = limit * USABLE[resource]

        def capacity(each: float) -> float:
            return max(0.0, newest.sessions + (usable - used) / each)

        dearer = max(cost.high, cost.middle)
        cheaper = cost.low if cost.low > 0 else cost.middle
        return Estimate(
            resource=resource,
            sessions=newest.sessions,
            used=used,
            limit=limit,
            usable=usable,
            cost=cost.middle,
            capacity=capacity(cost.middle),
            low=min(capacity(dearer), capacity(cost.middle)),
            high=max(capacity(cheaper), capacity(cost.middle)),
            method=method,
        )

    def _trend(self, resource: Resource) -> Slope | None:
        counts = [one.sessions for one in self._seen]
        spread = max(counts) - min(counts)
        if spread < MIN_CHANGE or spread < MIN_SPREAD * max(counts):
            return None
        cost = self._slope(lambda one: one.usage[resource].used if resource in one.usage else None)
        if resource != "memory" or cost is None:
            return cost
        allocated = self._cost_of_allocated()
        if allocated is not None and cost.middle < FLAT * allocated.middle:
            return allocated
        return cost

    def _cost_of_allocated(self) -> Slope | None:
        newest = self._seen[-1]
        cost = self._slope(lambda one: one.allocated)
        if cost is None or not newest.allocated:
            return None
        share = newest.usage["memory"].used / newest.allocated
        return Slope(*(share * each for each in cost))

    def _slope(self, used: Callable[[Observation], float | None]) -> Slope | None:
        points = ((float(one.sessions), used(one)) for one in self._seen)
        return slope([(x, y) for x, y in points if y is not None])


def _average(sessions: int, used: float) -> Slope | None:
    if sessions < MIN_SESSIONS:
        return None
    each = used / sessions
    return Slope(each, each, each)


def first_to_end(estimates: Iterable[Estimate]) -> Estimate | None:
    """The resource that ends first; None when nothing is known."""
    return min(estimates, key=lambda estimate: estimate.capacity, default=None)
