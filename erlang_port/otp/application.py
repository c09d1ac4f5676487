"""application: what is started and stopped as a whole, after what it depends on.

(OTP Design Principles, "Applications"; application(3).) An application has a specification and,
unless it is a library, a module that starts its top process, most often a supervisor.

    class Shop(Application):
        async def start(self, start_type, args):
            return await supervisor.start_link(ShopSupervisor, args)

        def stop(self, state): ...

    await application.run(ApplicationSpec("shop", Shop, applications=["crypto"]))

Each asyncio loop has its own applications. Names are strings here.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from erlang_port.otp.application_controller import ApplicationController, ApplicationError
from erlang_port.otp.server import describe

if TYPE_CHECKING:
    from erlang_port.etf import Term
    from erlang_port.otp.process import Process

__all__ = [
    "Application",
    "ApplicationError",
    "ApplicationSpec",
    "RestartType",
    "Terminated",
    "ensure_all_started",
    "ensure_started",
    "get_all_env",
    "get_env",
    "load",
    "loaded_applications",
    "run",
    "set_env",
    "start",
    "stop",
    "unload",
    "unset_env",
    "which_applications",
]

#: What the end of an application means to the others: permanent, they are stopped; transient, only
#: if it was not `normal`; temporary, nothing.
RestartType: TypeAlias = Literal["permanent", "transient", "temporary"]
#: The top process, and a state for the other callbacks.
Started: TypeAlias = "Process | tuple[Process | None, Any] | None"


class Terminated(Exception):  # noqa: N818  # OTP's word: it has terminated
    """An application that was to stay has ended, and the others have been stopped.

    Attributes:
        name: Which one.
        reason: Why.
    """

    def __init__(self, name: str, reason: Term) -> None:
        super().__init__(f"application {name} ended: {describe(reason)}")
        self.name = name
        self.reason = reason


class Application:
    """The callback module."""

    def start(self, start_type: str, args: Any) -> Started | Awaitable[Started]:  # noqa: ANN401
        """Start the top process, linked to the process that runs; alone, or with a state.

        Args:
            start_type: `normal`; there is no other here.
            args: The specification's.
        """
        raise NotImplementedError

    def start_phase(self, phase: str, start_type: str, args: Any) -> object:  # noqa: ANN401
        """Do what a phase of the specification is for, once the top process runs; may be async."""

    def prep_stop(self, state: Any) -> Any:  # noqa: ANN401  # any state
        """Prepare the stop while everything runs; the state for `stop`, which may be awaitable.

        As in OTP it is also called when the top process has ended by itself.
        """
        return state

    def stop(self, state: Any) -> object:  # noqa: ANN401  # any state
        """Clean up once the top process has ended; may be async."""


@dataclass(frozen=True, slots=True)
class ApplicationSpec:
    """What an `.app` file holds.

    Attributes:
        name: Its name.
        module: The callback module, a class or an object; None: a library, nothing is started.
        args: For `start`.
        applications: What it needs, in the order of starting.
        env: Its environment, whatever `set_env` has set before, unless that persists.
        start_phases: Phases and their arguments, in the order of running.
        description: For who reads.
        vsn: Its version.
    """

    name: str
    module: type[Application] | Application | None = None
    args: Any = None
    applications: Sequence[str] = ()
    env: Mapping[str, Any] = field(default_factory=dict)
    start_phases: Sequence[tuple[str, Any]] = ()
    description: str = ""
    vsn: str = ""


_controller = ApplicationController.here


def load(spec: ApplicationSpec) -> None:
    """Make an application known.

    Raises:
        ApplicationError: `{already_loaded, Name}`.
    """
    _controller().load(spec)


def unload(name: str) -> None:
    """Forget an application, its environment included, but for what persists of it.

    Raises:
        ApplicationError: `{not_loaded, Name}`, `{running, Name}`.
    """
    _controller().unload(name)


async def start(name: str, restart_type: RestartType = "temporary") -> None:
    """Start an application that is loaded.

    Raises:
        ApplicationError: `{not_loaded, Name}`, `{already_started, Name}`; `{not_started, Other}`:
            it needs another that does not run. Its start failed: `{Reason, Call}` where `start` or
            a phase raised `StartError`, `{bad_return, {Call, Value}}`, and
            `{bad_return, {Call, {'EXIT', Reason}}}` for any other exception, `bad_return_value` in
            a phase; `Call` is `{Module, Function, Args}`.
    """
    await _controller().start(name, restart_type)


async def ensure_started(name: str, restart_type: RestartType = "temporary") -> None:
    """Start an application unless it runs; see `start`."""
    if name not in which_applications():
        await start(name, restart_type)


async def ensure_all_started(name: str, restart_type: RestartType = "temporary") -> list[str]:
    """Start an application after all that it needs; when one fails, those started are stopped.

    Returns:
        Those that were started, in that order.

    Raises:
        ApplicationError: `{Name, Reason}`: which one, and why, as for `start`;
            `{circular, [Name, ..]}`: they need each other.
    """
    return await _controller().ensure_all_started(name, restart_type)


async def stop(name: str) -> None:
    """Stop an application; those that it needed go on.

    Raises:
        ApplicationError: `{not_started, Name}`.
    """
    await _controller().stop(name)


def which_applications() -> list[str]:
    """Those that run, the last one started first."""
    return _controller().running


def loaded_applications() -> list[str]:
    """Those that are loaded."""
    return list(_controller().specs)


def get_env(name: str, key: str, default: Any = None) -> Any:  # noqa: ANN401  # any value
    """A value of an application's environment; the default when it has none."""
    return _controller().environment(name).get(key, default)


def get_all_env(name: str) -> dict[str, Any]:
    """An application's environment; empty when it is not loaded."""
    return dict(_controller().environment(name))


def set_env(name: str, key: str, value: Any, *, persistent: bool = False) -> None:  # noqa: ANN401
    """Set a value in an application's environment; as in OTP it need not be loaded yet.

    Args:
        name: Which application.
        key: Which value.
        value: The value.
        persistent: Whether it counts for the specification's own, whenever that is loaded.
    """
    _controller().set_env(name, key, value, persistent=persistent)


def unset_env(name: str, key: str, *, persistent: bool = False) -> None:
    """Take a value out of an application's environment; `persistent` as for `set_env`."""
    _controller().unset_env(name, key, persistent=persistent)


async def run(
    spec: ApplicationSpec,
    *,
    over: asyncio.Future[Any] | None = None,
    signals: Sequence[signal.Signals] = (signal.SIGTERM,),
) -> None:
    """Load and start an application, permanent, after all that it needs; stop all at the end.

    The end is one of the signals, `over` being done, or the end of the application itself. One that
    comes while something starts is obeyed at once: what had started is killed.

    Args:
        spec: The application.
        over: What else is a reason to stop.
        signals: Signals that are.

    Raises:
        ApplicationError: It could not be started.
        Terminated: It, or another that is permanent, has ended.
    """
    controller = _controller()
    controller.load(spec)
    loop = asyncio.get_running_loop()
    ends: set[asyncio.Future[Any]] = {controller.terminated}
    ends.add(loop.create_future() if over is None else over)
    told = loop.create_future()
    ends.add(told)
    for number in signals:
        loop.add_signal_handler(number, lambda: None if told.done() else told.set_result(None))
    starting = asyncio.ensure_future(controller.ensure_all_started(spec.name, "permanent"))
    try:
        await asyncio.wait({starting, *ends}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if controller.terminated.done():
            raise Terminated(*controller.terminated.result())
    finally:
        starting.cancel()
        await asyncio.wait({starting})
        await controller.stop_all()
        controller.unload(spec.name)
        for number in signals:
            loop.remove_signal_handler(number)
