"""Child specifications and supervisor flags, with OTP's defaults and errors (supervisor(3))."""

from __future__ import annotations

import functools
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from erlang_port.etf import Atom, Term
from erlang_port.otp.process import Process

Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"]
Restart: TypeAlias = Literal["permanent", "transient", "temporary"]
ChildType: TypeAlias = Literal["worker", "supervisor"]
AutoShutdown: TypeAlias = Literal["never", "any_significant", "all_significant"]
#: Seconds that a child has to end once it got `shutdown`; then, or at once, it is killed.
Shutdown: TypeAlias = float | Literal["brutal_kill", "infinity"]
#: Starts a child linked to the process that runs, which is the supervisor; None: nothing to start
#: (OTP's `ignore`). It raises `StartError` when the child cannot be started.
Start: TypeAlias = Callable[..., Awaitable[Process | None]]

BRUTAL_KILL: Final = "brutal_kill"
INFINITY: Final = "infinity"

#: Seconds that a worker has to end, unless its specification says otherwise.
DEFAULT_SHUTDOWN: Final = 5.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a child that ended is waited with before it is started again.

    OTP has no such thing: what it starts is cheap. Waiting bounds the pace of the restarts, so they
    do not count for the supervisor's intensity; and a first start that fails is tried again, and is
    not its supervisor's failure.

    Attributes:
        first: Seconds before the first restart; each time after it twice as long.
        longest: Seconds of the longest wait.
        stable: Seconds that a child must have run for its next wait to be the first again.
    """

    first: float = 0.1
    longest: float = 10.0
    stable: float = 10.0

    def delay(self, failures: int) -> float:
        """Seconds to wait after so many ends in a row before this one."""
        return min(self.first * 2.0 ** min(failures, 64), self.longest)


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How a child is started, restarted and stopped.

    Attributes:
        id: Its name under its supervisor; an atom or binary, if the node is to name it.
        start: Starts it.
        args: What `start` is called with.
        restart: permanent, always; transient, unless it ended with `normal`, `shutdown` or
            `{shutdown, _}`; temporary, never, and then it is forgotten.
        shutdown: None: 5 s for a worker, infinity for a supervisor.
        type: Whether it is a supervisor.
        modules: For `which_children`; no atom of Python's is needed at the node for `dynamic`.
        significant: Whether its end counts for `auto_shutdown`.
        backoff: None: it is started again at once, as in OTP, and that counts.
    """

    id: Term
    start: Start
    args: Sequence[Any] = ()
    restart: Restart = "permanent"
    shutdown: Shutdown | None = None
    type: ChildType = "worker"
    modules: Sequence[Term] | Literal["dynamic"] = "dynamic"
    significant: bool = False
    backoff: Backoff | None = None

    @property
    def shutdown_time(self) -> Shutdown:
        """`shutdown` with its default."""
        if self.shutdown is not None:
            return INFINITY if self.shutdown == math.inf else self.shutdown
        return INFINITY if self.type == "supervisor" else DEFAULT_SHUTDOWN

    def modules_term(self) -> Term:
        """The modules as `which_children` shows them."""
        return Atom("dynamic") if self.modules == "dynamic" else list(self.modules)

    def term(self) -> dict[Term, Term]:
        """The map that `get_childspec` gives, times in milliseconds."""
        return {
            Atom("id"): self.id,
            Atom("start"): self._mfa(),
            Atom("restart"): Atom(self.restart),
            Atom("significant"): self.significant,
            Atom("shutdown"): self._shutdown_term(),
            Atom("type"): Atom(self.type),
            Atom("modules"): self.modules_term(),
        }

    def record(self) -> Term:
        """The child record that stands in the error of a start that failed, as OTP's does."""
        return (
            Atom("child"),
            None,
            self.id,
            self._mfa(),
            Atom(self.restart),
            self.significant,
            self._shutdown_term(),
            Atom(self.type),
            self.modules_term(),
        )

    def _shutdown_term(self) -> Term:
        return _milliseconds(self.shutdown_time)

    def _mfa(self) -> Term:
        # Names as binaries: a Python module is no atom at the node. Arguments may be anything: they
        # stay here, and OTP too has `undefined` for those that it does not keep.
        start: Any = self.start
        while isinstance(start, functools.partial):
            start = start.func
        names = (getattr(start, "__module__", None), getattr(start, "__qualname__", None))
        module, function = (str(name).encode() for name in names)
        return module, function, None


@dataclass(frozen=True, slots=True)
class Flags:
    """A supervisor's flags.

    Attributes:
        strategy: Who is restarted when one ends. `simple_one_for_one`: there is one specification,
            and a child for each `start_child`.
        intensity: How many restarts are allowed
        period: in so many seconds.
        auto_shutdown: Whether the supervisor ends by itself when a significant child does.
    """

    strategy: Strategy = "one_for_one"
    intensity: int = 1
    period: float = 5.0
    auto_shutdown: AutoShutdown = "never"

    @property
    def simple(self) -> bool:
        """Whether children are started on demand, all after one specification."""
        return self.strategy == "simple_one_for_one"


_STRATEGIES: Final = {"one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"}
_RESTARTS: Final = {"permanent", "transient", "temporary"}
_TYPES: Final = {"worker", "supervisor"}
_AUTO_SHUTDOWNS: Final = {"never", "any_significant", "all_significant"}


def flags_error(flags: Flags) -> Term:
    """What is wrong with flags, as OTP says it; None: nothing."""
    if flags.strategy not in _STRATEGIES:
        return Atom("invalid_strategy"), _atom(flags.strategy)
    if not isinstance(flags.intensity, int) or flags.intensity < 0:
        return Atom("invalid_intensity"), flags.intensity
    if not isinstance(flags.period, int | float) or not 0 < flags.period < math.inf:
        return Atom("invalid_period"), flags.period
    if flags.auto_shutdown not in _AUTO_SHUTDOWNS:
        return Atom("invalid_auto_shutdown"), _atom(flags.auto_shutdown)
    return None


def spec_error(spec: object, flags: Flags) -> Term:
    """What is wrong with a child specification, as OTP says it; None: nothing."""
    if not isinstance(spec, ChildSpec):
        return Atom("invalid_child_spec"), spec
    if spec.restart not in _RESTARTS:
        return Atom("invalid_restart_type"), _atom(spec.restart)
    if spec.type not in _TYPES:
        return Atom("invalid_child_type"), _atom(spec.type)
    time = spec.shutdown_time
    if time not in {BRUTAL_KILL, INFINITY} and (not isinstance(time, int | float) or time < 0):
        return Atom("invalid_shutdown"), _milliseconds(time)
    if spec.significant and flags.auto_shutdown == "never":
        return _bad_combination("auto_shutdown", "never", "significant", True)
    if spec.significant and spec.restart == "permanent":
        return _bad_combination("restart", "permanent", "significant", True)
    return None


def specs_error(specs: Sequence[object], flags: Flags) -> Term:
    """What is wrong with the specifications that `init` gave; None: nothing."""
    ids = set()
    for spec in specs:
        if (error := spec_error(spec, flags)) is not None:
            return error
        assert isinstance(spec, ChildSpec)  # noqa: S101  # just checked
        if spec.id in ids:
            return Atom("duplicate_child_name"), spec.id
        ids.add(spec.id)
    return None


def _bad_combination(first: str, one: Term, second: str, other: Term) -> Term:
    return Atom("bad_combination"), [(Atom(first), _atom(one)), (Atom(second), _atom(other))]


def _atom(value: Term) -> Term:
    return Atom(value) if isinstance(value, str) else value


def _milliseconds(time: Shutdown) -> Term:
    return Atom(time) if isinstance(time, str) else round(time * 1000)
