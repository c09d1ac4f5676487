"""What a supervisor knows of its children."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from erlang_port.etf import Atom, Term

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from erlang_port.otp.child_spec import ChildSpec
    from erlang_port.otp.process import Process

RESTARTING: Final = Atom("restarting")


class Child:
    """One child.

    Attributes:
        spec: Its specification.
        args: What it is started with; with `simple_one_for_one` each child has its own.
        process: The process, or None.
        restarting: Whether it is to be started again.
        restarts: How often it was.
        since: When it was started, by the monotonic clock.
        last: The process that ended, while it is restarting.
    """

    __slots__ = (
        "_failures",
        "_timer",
        "args",
        "last",
        "process",
        "restarting",
        "restarts",
        "since",
        "spec",
    )

    def __init__(self, spec: ChildSpec, args: Sequence[Any]) -> None:
        self.spec = spec
        self.args = args
        self.process: Process | None = None
        self.last: Process | None = None
        self.restarting = False
        self.restarts = 0
        self.since: float | None = None
        self._failures = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def temporary(self) -> bool:
        """Whether it is forgotten once it ends."""
        return self.spec.restart == "temporary"

    @property
    def permanent(self) -> bool:
        """Whether it is to run always."""
        return self.spec.restart == "permanent"

    @property
    def active(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.alive

    @property
    def term(self) -> Term:
        """What stands for it in `which_children`."""
        return RESTARTING if self.restarting else self.process

    @property
    def uptime(self) -> float | None:
        """Seconds since it was started, or None."""
        if not self.active or self.since is None:
            return None
        return time.monotonic() - self.since

    def ran(self, process: Process | None) -> None:
        """It has been started."""
        self.stand_still()
        self.process = process
        self.last = None
        self.since = time.monotonic()

    def stand_still(self) -> None:
        """It does not run, and is not going to be started by itself."""
        self.process = None
        self.restarting = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def restart_later(self, restart: Callable[[], None]) -> None:
        """Wait as its specification says, then have it restarted."""
        self.stand_still()
        self.restarting = True
        backoff = self.spec.backoff
        if backoff is None:
            restart()
            return
        delay = backoff.delay(self._failures)
        self._failures += 1
        self._timer = asyncio.get_running_loop().call_later(delay, restart)

    def ended(self) -> None:
        """It has ended by itself."""
        backoff = self.spec.backoff
        lived = 0.0 if self.since is None else time.monotonic() - self.since
        if backoff is not None and lived >= backoff.stable:
            self._failures = 0
        self.last = self.process
        self.process = None


class Children:
    """The children in the order of starting.

    With `simple_one_for_one` they have no ids, and are found by their processes alone.
    """

    def __init__(self, *, simple: bool) -> None:
        self._simple = simple
        self._children: dict[Term, Child] = {}
        self._by_process: dict[Process, Child] = {}

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._children.values()))

    def __len__(self) -> int:
        return len(self._children)

    def __contains__(self, child: Child) -> bool:
        return self._children.get(self._key(child)) is child

    def _key(self, child: Child) -> Term:
        return child if self._simple else child.spec.id

    def add(self, child: Child) -> None:
        """Append a child."""
        self._children[self._key(child)] = child

    def remove(self, child: Child) -> None:
        """Forget a child."""
        self.stopped(child)
        self._children.pop(self._key(child), None)

    def started(self, child: Child, process: Process | None) -> None:
        """A child has been started."""
        child.ran(process)
        if process is not None:
            self._by_process[process] = child

    def stopped(self, child: Child) -> None:
        """A child does not run, and is not going to be started by itself."""
        if child.process is not None:
            self._by_process.pop(child.process, None)
        child.stand_still()

    def stopped_or_forgotten(self, child: Child) -> None:
        """A child does not run; a temporary one is not kept for that."""
        if child.temporary:
            self.remove(child)
        else:
            self.stopped(child)

    def ended(self, process: Process) -> Child | None:
        """Whose process has ended by itself; None: nobody's."""
        child = self._by_process.pop(process, None)
        if child is not None:
            child.ended()
        return child

    def find(self, child_id: Term) -> Child | None:
        """The child of an id; by a process with `simple_one_for_one`."""
        try:
            if self._simple:
                return self._by_process.get(child_id) or self._restarting(child_id)
            child = self._children.get(child_id)
        except TypeError:
            # A list or a map, which can be nobody's.
            return None
        if child is None and isinstance(child_id, bytes):
            # A `str` is a binary to whoever asks from the node.
            child = self._children.get(child_id.decode(errors="replace"))
        return child

    def _restarting(self, process: Term) -> Child | None:
        return next((one for one in self if one.restarting and one.last is process), None)

    def after(self, child: Child) -> list[Child]:
        """A child and those that were started after it."""
        every = list(self)
        return every[every.index(child) :]


class RestartIntensity:
    """How many restarts there were in the period.

    Args:
        intensity: How many are allowed
        period: in so many seconds.
    """

    def __init__(self, intensity: int, period: float) -> None:
        self._intensity = intensity
        self._period = period
        self._restarts: deque[float] = deque()

    def allows(self) -> bool:
        """Count one more; whether it is allowed."""
        now = time.monotonic()
        self._restarts.append(now)
        while self._restarts[0] < now - self._period:
            self._restarts.popleft()
        return len(self._restarts) <= self._intensity

    def __str__(self) -> str:
        return f"more than {self._intensity} restarts in {self._period:g} s"
