"""The process over a running application: starts its top process, and stops it (OTP's own name)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from erlang_port.etf import Atom
from erlang_port.otp import gen
from erlang_port.otp.child_spec import INFINITY
from erlang_port.otp.process import Process
from erlang_port.otp.reasons import NORMAL, Exit, of_exception
from erlang_port.otp.runtime import Runtime
from erlang_port.otp.server import settled
from erlang_port.otp.shutdown import Ended, shut_down

if TYPE_CHECKING:
    from erlang_port.otp.application import ApplicationSpec

_log = logging.getLogger("megaphone.otp.application")

_STOP: Final = Atom("stop")


class ApplicationMaster:
    """One running application.

    Attributes:
        spec: Its specification.
        process: This process; it ends with the application, for its reason.
        top: The application's top process, once it has started; None: it has none.
    """

    def __init__(self, spec: ApplicationSpec, module: Any) -> None:  # noqa: ANN401  # has callbacks
        self.spec = spec
        self.top: Process | None = None
        self._module = module
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.process = Runtime.here().spawn(self._run, label=f"{spec.name} master", trap_exit=True)

    async def started(self) -> None:
        """Wait until the application runs; it is killed when nobody waits any more.

        Raises:
            Exit: It could not be started.
        """
        try:
            await self._started
        except asyncio.CancelledError:
            self.process.exit("kill")
            raise

    async def stop(self) -> None:
        """Stop the application, and wait until it has stopped."""
        ended = Ended(self.process)
        self.process.send(_STOP)
        await ended.wait()

    async def _run(self) -> None:
        try:
            state = await self._start()
        except Exception as error:  # noqa: BLE001  # whatever it raises, it is not started
            reason = error.reason if isinstance(error, gen.StartError) else of_exception(error)
            if not isinstance(error, gen.StartError | Exit):
                _log.error("application %s: start failed", self.spec.name, exc_info=error)
            self._started.set_exception(Exit(reason))
            return
        self._started.set_result(None)
        reason = NORMAL
        while True:
            match await self.process.receive():
                case "stop":
                    state = await self._call("prep_stop", state)
                    break
                case (tag, sender, reason) if tag == gen.EXIT and sender is self.top:
                    break
        await self._stop_top()
        await self._call("stop", state)
        raise Exit(reason)

    async def _start(self) -> Any:  # noqa: ANN401  # the application's state
        spec = self.spec
        if self._module is None:
            return None
        started = await settled(self._module.start("normal", spec.args))
        top, state = started if isinstance(started, tuple) else (started, None)
        if not isinstance(top, Process):
            raise Exit((Atom("bad_return"), repr(started).encode(errors="replace")))
        self.top = top
        self.process.link(top)
        try:
            for phase, args in spec.start_phases:
                await settled(self._module.start_phase(phase, "normal", args))
        except BaseException:
            await self._stop_top()
            raise
        return state

    async def _stop_top(self) -> None:
        if self.top is not None:
            await shut_down(self.top, self.process, INFINITY)

    async def _call(self, callback: str, state: Any) -> Any:  # noqa: ANN401  # the state
        if self._module is None:
            return state
        try:
            return await settled(getattr(self._module, callback)(state))
        except Exception:  # noqa: BLE001  # logged; it has to stop all the same
            _log.exception("application %s: %s failed", self.spec.name, callback)
            return state
