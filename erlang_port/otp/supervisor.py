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


class ChildError(Exception):
    """`terminate_child` or `restart_child` cannot be done.

    Attributes:
        reason: not_found, running, or noproc where the supervisor does not run.
    """

    def __init__(self, reason: Literal["not_found", "running", "noproc"], child_id: str) -> None:
        super().__init__(f"{reason}: {child_id}")
        self.reason = reason


class IntensityExceeded(Exception):  # noqa: N818  # OTP's term
    """More restarts than the intensity allows in the period; all children were stopped."""


class _Child:
    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.task: asyncio.Task[None] | None = None
        self.restarts = 0
        #: Stopped by `terminate_child`, and not started since.
        self.terminated = False


class _Order(NamedTuple):
    act: Callable[[], Awaitable[None]]
    done: asyncio.Future[None]


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
        # What others ask for is done between two events, never while a restart is under way.
        self._orders: deque[_Order] = deque()
        self._ordered: asyncio.Future[None] | None = None

    async def run(self, started: Started = lambda: None) -> None:
        """Start the children and keep them until cancelled, or until none is left to keep.

        Raises:
            IntensityExceeded: A child ended too often.
            StartError: A child could not be started the first time.
        """
        try:
            self._ordered = asyncio.get_running_loop().create_future()
            for child in self._children:
                await self._start(child)
            started()
            while await self._event():
                pass
        finally:
            self._ordered = None
            while self._orders:
                done = self._orders.popleft().done
                if not done.done():
                    done.set_exception(ChildError("noproc", self.name))
            await self._stop(self._children)

    async def _event(self) -> bool:
        """Wait for the end of a child or an order; False when there is nothing to keep."""
        running = {c.task: c for c in self._children if c.task is not None}
        if not (running or self._orders or any(c.terminated for c in self._children)):
            return False
        if self._ordered is None or self._ordered.done():
            self._ordered = asyncio.get_running_loop().create_future()
        if not self._orders:
            waiting: set[asyncio.Future[None]] = {self._ordered, *running}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        # In the order of the children, so that what is restarted does not depend on chance.
        for task, child in running.items():
            if task.done():
                await self._ended(child, task)
        while self._orders:
            await self._obey(self._orders.popleft())
        return True

    async def _obey(self, order: _Order) -> None:
        try:
            await order.act()
        except (ChildError, StartError) as error:
            if not order.done.done():
                order.done.set_exception(error)
        except asyncio.CancelledError:
            order.done.cancel()
            raise
        else:
            if not order.done.done():
                order.done.set_result(None)

    async def terminate_child(self, child_id: str) -> None:
        """Stop a child within its shutdown time; it stays stopped until `restart_child`.

        A temporary child is forgotten. One that does not run is left as it is.

        Raises:
            ChildError: There is no such child, or the supervisor does not run.
        """

        async def act() -> None:
            child = self._find(child_id)
            await self._stop([child])
            if child.spec.restart == "temporary":
                self._children.remove(child)
            else:
                child.terminated = True

        await self._order(act, child_id)

    async def restart_child(self, child_id: str) -> None:
        """Start a child again that does not run; it is no restart that counts.

        Raises:
            ChildError: There is no such child, it runs, or the supervisor does not run.
            StartError: It ended before it was initialised.
        """

        async def act() -> None:
            child = self._find(child_id)
            if child.task is not None:
                raise ChildError("running", child_id)
            await self._start(child)

        await self._order(act, child_id)

    async def _order(self, act: Callable[[], Awaitable[None]], child_id: str) -> None:
        if self._ordered is None:
            raise ChildError("noproc", child_id)
        done = asyncio.get_running_loop().create_future()
        self._orders.append(_Order(act, done))
        if not self._ordered.done():
            self._ordered.set_result(None)
        await done

    def _find(self, child_id: str) -> _Child:
        for child in self._children:
            if child.spec.id == child_id:
                return child
        raise ChildError("not_found", child_id)

    def which_children(self) -> list[ChildInfo]:
        """The children in the order of starting."""
        return [ChildInfo(c.spec.id, c.task is not None, c.restarts) for c in self._children]

    def count_children(self) -> ChildCounts:
        """How many children there are, and how many of them run."""
        active = sum(c.task is not None for c in self._children)
        return ChildCounts(specs=len(self._children), active=active)

    async def _start(self, child: _Child) -> None:
        child.terminated = False
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
        if restart == "temporary":
            # As in OTP, it is forgotten.
            self._children.remove(child)
            return
        if error is None:
            if restart == "transient":
                return
            _log.warning("%s: permanent child %s ended", self.name, child.spec.id)
        await self._restart(child, error)

    async def _restart(self, child: _Child, error: BaseException | None) -> None:
        while True:
            self._count_restart(child, error)
            others = self._affected(child)
            await self._stop(others)
            # A temporary child is never restarted, though a sibling's end may be its own.
            for other in [o for o in others if o.spec.restart == "temporary"]:
                others.remove(other)
                self._children.remove(other)
            try:
                for child in others:  # who fails to start is who is restarted next
                    child.restarts += 1
                    await self._start(child)
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
        return self._children[first:]

    def _count_restart(self, child: _Child, error: BaseException | None) -> None:
        now = time.monotonic()
        self._restarts.append(now)
        while self._restarts[0] < now - self._period:
            self._restarts.popleft()
        if len(self._restarts) > self._intensity:
            text = (
                f"{self.name}: more than {self._intensity} restarts in {self._period:g} s,"
                f" the last of {child.spec.id}"
            )
            # Here, since whatever takes the log elsewhere may be one of the children.
            _log.critical("%s", text)
            raise IntensityExceeded(text) from error

    async def _stop(self, children: Sequence[_Child]) -> None:
        try:
            for child in reversed(children):
                await self._stop_child(child)
        except asyncio.CancelledError:
            # Cancelled while stopping: who is left has no time.
            for child in children:
                if child.task is not None:
                    child.task.cancel()
            raise

    async def _stop_child(self, child: _Child) -> None:
        task = child.task
        if task is None:
            return
        task.cancel()
        if child.spec.shutdown == BRUTAL_KILL:
            child.task = None
            return
        _, pending = await asyncio.wait({task}, timeout=child.spec.shutdown)
        child.task = None
        if pending:
            _log.error(
                "%s: child %s did not stop within %g s",
                self.name,
                child.spec.id,
                child.spec.shutdown,
            )
            task.cancel()
        elif not task.cancelled() and (error := task.exception()) is not None:
            _log.error("%s: child %s: %r", self.name, child.spec.id, error, exc_info=error)
