"""Supervisor: starts children in order, restarts them by a strategy, stops them in reverse order.

After OTP's supervisor behaviour (OTP Design Principles, "Supervisor Behaviour"). A child is a
coroutine function: it is given `started`, calls it once it is initialised, and runs until its work
is done. The next child is not started before that. A supervisor's own `run` has the same shape, so
a supervisor can be a child.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

_log = logging.getLogger(__name__)

Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]
Restart: TypeAlias = Literal["permanent", "transient", "temporary"]
#: What a child is given to say that it is initialised.
Started: TypeAlias = Callable[[], None]

#: A child with this shutdown is cancelled and not waited for.
BRUTAL_KILL: Final = "brutal_kill"


class ChildSpec(NamedTuple):
    """How a child is started, restarted and stopped.

    Attributes:
        id: Its name under this supervisor.
        run: The child.
        restart: permanent, always; transient, when it ended by an exception; temporary, never.
        shutdown: Seconds that it has to end once cancelled, or `BRUTAL_KILL`.
    """

    id: str
    run: Callable[[Started], Awaitable[None]]
    restart: Restart = "permanent"
    shutdown: float | Literal["brutal_kill"] = 5.0


class ChildInfo(NamedTuple):
    """What `which_children` tells of a child."""

    id: str
    running: bool
    restarts: int


class ChildCounts(NamedTuple):
    """What `count_children` tells."""

    specs: int
    active: int


class StartError(Exception):
    """A child ended before it was initialised; those before it were stopped again."""


class IntensityExceeded(Exception):  # noqa: N818  # OTP's term
    """More restarts than the intensity allows in the period; all children were stopped."""


class _Child:
    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.task: asyncio.Task[None] | None = None
        self.restarts = 0
        #: Waits until `started` is called; set while starting only.
        self.ready: asyncio.Future[None] | None = None


class Supervisor:
    """A supervisor of coroutines.

    Args:
        name: For the log.
        children: In the order of starting.
        strategy: Who is restarted when one ends.
        intensity: How many restarts are allowed
        period: in so many seconds. OTP's defaults, 1 in 5 s.
    """

    def __init__(
        self,
        name: str,
        children: Sequence[ChildSpec],
        *,
        strategy: Strategy = "one_for_one",
        intensity: int = 1,
        period: float = 5.0,
    ) -> None:
        if len({spec.id for spec in children}) != len(children):
            raise ValueError(f"two children of {name} have one id")
        self.name = name
        self._children = [_Child(spec) for spec in children]
        self._strategy = strategy
        self._intensity = intensity
        self._period = period
        self._restarts: deque[float] = deque()

    async def run(self, started: Started = lambda: None) -> None:
        """Start the children and keep them until cancelled, or until none is left to keep.

        Raises:
            IntensityExceeded: A child ended too often.
            StartError: A child could not be started the first time.
        """
        try:
            for child in self._children:
                await self._start(child)
            started()
            while running := {c.task: c for c in self._children if c.task is not None}:
                ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    await self._ended(running[task], task)
        finally:
            await self._stop(self._children)

    def which_children(self) -> list[ChildInfo]:
        """The children in the order of starting."""
        return [ChildInfo(c.spec.id, c.task is not None, c.restarts) for c in self._children]

    def count_children(self) -> ChildCounts:
        """How many children there are, and how many of them run."""
        active = sum(c.task is not None for c in self._children)
        return ChildCounts(specs=len(self._children), active=active)

    async def _start(self, child: _Child) -> None:
        ready = asyncio.get_running_loop().create_future()

        def started() -> None:
            if not ready.done():
                ready.set_result(None)

        async def body() -> None:
            await child.spec.run(started)

        task = asyncio.create_task(body(), name=f"{self.name}/{child.spec.id}")
        child.task = task
        waiting: set[asyncio.Future[None]] = {ready, task}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            child.task = None
            error = None if task.cancelled() else task.exception()
            raise StartError(f"{child.spec.id} ended before it had started: {error!r}") from error

    async def _ended(self, child: _Child, task: asyncio.Task[None]) -> None:
        if child.task is not task:
            # Stopped by a strategy since: already accounted for.
            return
        child.task = None
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            _log.error("%s: child %s ended: %r", self.name, child.spec.id, error, exc_info=error)
        restart = child.spec.restart
        if restart == "temporary" or (restart == "transient" and error is None):
            return
        await self._restart(child, error)

    async def _restart(self, child: _Child, error: BaseException | None) -> None:
        while True:
            self._count_restart(child, error)
            others = self._affected(child)
            await self._stop(others)
            try:
                for other in others:
                    other.restarts += 1
                    await self._start(other)
            except StartError as failure:
                # As in OTP, a restart that fails is another restart.
                _log.error("%s: %s", self.name, failure)
                error = failure
            else:
                return

    def _affected(self, child: _Child) -> list[_Child]:
        if self._strategy == "one_for_one":
            return [child]
        first = 0 if self._strategy == "one_for_all" else self._children.index(child)
        return [
            other
            for other in self._children[first:]
            if other is child or other.task is not None or other.spec.restart == "permanent"
        ]

    def _count_restart(self, child: _Child, error: BaseException | None) -> None:
        now = time.monotonic()
        self._restarts.append(now)
        while self._restarts[0] < now - self._period:
            self._restarts.popleft()
        if len(self._restarts) > self._intensity:
            raise IntensityExceeded(
                f"{self.name}: more than {self._intensity} restarts in {self._period:g} s,"
                f" the last of {child.spec.id}"
            ) from error

    async def _stop(self, children: Sequence[_Child]) -> None:
        for child in reversed(children):
            task, child.task = child.task, None
            if task is None:
                continue
            task.cancel()
            if child.spec.shutdown == BRUTAL_KILL:
                continue
            _, pending = await asyncio.wait({task}, timeout=child.spec.shutdown)
            if pending:
                _log.error(
                    "%s: child %s did not stop within %g s", self.name, child.spec.id,
                    child.spec.shutdown,
                )  # fmt: skip
            elif not task.cancelled() and task.exception() is not None:
                _log.error("%s: child %s: %r", self.name, child.spec.id, task.exception())
