"""Which applications a loop has: loaded, running, in which order, with what environment."""

from __future__ import annotations

import asyncio
import logging
import weakref
from typing import TYPE_CHECKING, Any

from erlang_port.etf import Atom, Term
from erlang_port.otp.application_master import ApplicationMaster
from erlang_port.otp.process import Process, Reference
from erlang_port.otp.reasons import NORMAL, Exit
from erlang_port.otp.server import describe

if TYPE_CHECKING:
    from erlang_port.otp.application import ApplicationSpec, RestartType

_log = logging.getLogger("megaphone.otp.application")


class ApplicationError(Exception):
    """Something cannot be done with an application.

    Attributes:
        reason: `{Why, Name}`, see the functions of `erlang_port.otp.application`.
    """

    def __init__(self, *reason: Term) -> None:
        self.reason: Term = tuple(Atom(part) if isinstance(part, str) else part for part in reason)
        super().__init__(" ".join(map(describe, self.reason)))


class StartFailed(ApplicationError):  # noqa: N818  # says what happened, as the others do
    """The start of an application failed."""

    def __init__(self, name: str, reason: Term) -> None:
        super().__init__()
        self.reason = reason
        match reason:
            case (str(), (_, ("EXIT", why))) | (why, (bytes(), str(), list())):
                self.args = (f"application {name} did not start: {describe(why)}",)
            case _:
                self.args = (f"application {name} did not start: {describe(reason)}",)


class NotAllStarted(ApplicationError):  # noqa: N818  # the same
    """The start of one of several failed, or the knowledge of it."""

    def __init__(self, name: str, error: ApplicationError) -> None:
        super().__init__(name, error.reason)
        self.args = error.args


class _Watching(Reference):
    """Tells of the end of an application that nobody has stopped."""

    def __init__(self, controller: ApplicationController, name: str, kind: RestartType) -> None:
        self._controller = controller
        self._name = name
        self._kind = kind

    def down(self, reference: Reference, process: Process, reason: Term) -> None:
        """See `erlang_port.otp.process.Watcher`."""
        del reference, process
        self._controller.ended(self._name, self._kind, reason)


class ApplicationController:
    """The applications of one loop.

    Attributes:
        specs: Those that are loaded.
        terminated: The end of one that was to stay, as soon as there is one: its name and reason.
    """

    def __init__(self) -> None:
        self.specs: dict[str, ApplicationSpec] = {}
        self.terminated: asyncio.Future[tuple[str, Term]] = (
            asyncio.get_running_loop().create_future()
        )
        self._env: dict[str, dict[str, Any]] = {}
        # What was set to outlast the application's being unloaded.
        self._persistent: dict[str, dict[str, Any]] = {}
        self._masters: dict[str, ApplicationMaster] = {}
        self._watching: dict[str, _Watching] = {}
        self._stopping: asyncio.Future[None] | None = None

    @classmethod
    def here(cls) -> ApplicationController:
        """The running loop's."""
        loop = asyncio.get_running_loop()
        controller = _controllers.get(loop)
        if controller is None:
            controller = _controllers[loop] = cls()
        return controller

    @property
    def running(self) -> list[str]:
        """Those that run, the last one started first."""
        return list(reversed(self._masters))

    def load(self, spec: ApplicationSpec) -> None:
        """See `erlang_port.otp.application.load`."""
        if spec.name in self.specs:
            raise ApplicationError("already_loaded", spec.name)
        self.specs[spec.name] = spec
        before, kept = self._env.get(spec.name, {}), self._persistent.get(spec.name, {})
        self._env[spec.name] = {**before, **spec.env, **kept}

    def unload(self, name: str) -> None:
        """See `erlang_port.otp.application.unload`."""
        self._spec(name)
        if name in self._masters:
            raise ApplicationError("running", name)
        del self.specs[name], self._env[name]

    def environment(self, name: str) -> dict[str, Any]:
        """What an application has in its environment; for one that is not loaded, nothing."""
        return self._env.get(name, {})

    def set_env(self, name: str, key: str, value: Any, *, persistent: bool) -> None:  # noqa: ANN401
        """See `erlang_port.otp.application.set_env`."""
        self._env.setdefault(name, {})[key] = value
        if persistent:
            self._persistent.setdefault(name, {})[key] = value

    def unset_env(self, name: str, key: str, *, persistent: bool) -> None:
        """See `erlang_port.otp.application.unset_env`."""
        self._env.get(name, {}).pop(key, None)
        if persistent:
            self._persistent.get(name, {}).pop(key, None)

    async def start(self, name: str, kind: RestartType) -> None:
        """See `erlang_port.otp.application.start`."""
        spec = self._spec(name)
        if name in self._masters:
            raise ApplicationError("already_started", name)
        for needed in spec.applications:
            if needed not in self._masters:
                raise ApplicationError("not_started", needed)
        module = spec.module() if isinstance(spec.module, type) else spec.module
        master = ApplicationMaster(spec, module)
        try:
            await master.started()
        except Exit as error:
            raise StartFailed(name, error.reason) from None
        self._masters[name] = master
        watching = self._watching[name] = _Watching(self, name, kind)
        if master.process.alive:
            master.process.watch(watching, watching)
        else:
            self.ended(name, kind, master.process.exit_reason)

    async def ensure_all_started(self, name: str, kind: RestartType) -> list[str]:
        """See `erlang_port.otp.application.ensure_all_started`."""
        order: list[str] = []
        self._order(name, [], order)
        started: list[str] = []
        for one in order:
            if one not in self._masters:
                try:
                    await self.start(one, kind)
                except ApplicationError as error:
                    for other in reversed(started):
                        await self.stop(other)
                    raise NotAllStarted(one, error) from None
                started.append(one)
        return started

    def _order(self, name: str, above: list[str], order: list[str]) -> None:
        """Append an application after what it needs."""
        if name in above:
            raise ApplicationError("circular", [*above[above.index(name) :], name])
        if name in order:
            return
        try:
            spec = self._spec(name)
        except ApplicationError as error:
            raise NotAllStarted(name, error) from None
        for needed in spec.applications:
            self._order(needed, [*above, name], order)
        order.append(name)

    async def stop(self, name: str) -> None:
        """See `erlang_port.otp.application.stop`."""
        master = self._masters.get(name)
        if master is None:
            raise ApplicationError("not_started", name)
        watching = self._watching.pop(name, None)
        if watching is not None:
            # Else somebody else stops it already.
            master.process.unwatch(watching)
        await master.stop()
        self._masters.pop(name, None)

    async def stop_all(self) -> None:
        """Stop all that run, the last one started first."""
        for name in self.running:
            await self.stop(name)

    def ended(self, name: str, kind: RestartType, reason: Term) -> None:
        """An application has ended by itself."""
        del self._masters[name], self._watching[name]
        bad = kind == "permanent" or (kind == "transient" and reason != NORMAL)
        level = logging.ERROR if bad else logging.INFO
        _log.log(level, "application %s (%s) ended: %s", name, kind, describe(reason))
        if bad and not self.terminated.done():
            self.terminated.set_result((name, reason))
            self._stopping = asyncio.ensure_future(self.stop_all())

    def _spec(self, name: str) -> ApplicationSpec:
        spec = self.specs.get(name)
        if spec is None:
            raise ApplicationError("not_loaded", name)
        return spec


_controllers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, ApplicationController] = (
    weakref.WeakKeyDictionary()
)
