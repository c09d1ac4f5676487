"""The process over a running application: starts its top process, and stops it (OTP's own name)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from erlang_port.etf import Atom, Term
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
_NORMAL: Final = Atom("normal")
_BAD_RETURN: Final = Atom("bad_return")
_BAD_PHASE: Final = Atom("bad_return_value")


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
        except Exit as error:
            self._started.set_exception(error)
            return
        self._started.set_result(None)
        reason = NORMAL
        while True:
            match await self.process.receive():
                case "stop":
                    state = await self._call("prep_stop", state)
                    break
                case (tag, sender, reason) if tag == gen.EXIT and sender is self.top:
                    # As in OTP, with nothing there any more that could be prepared.
                    state = await self._call("prep_stop", state)
                    break
        await self._stop_top()
        await self._call("stop", state)
        raise Exit(reason)

    async def _start(self) -> Any:  # noqa: ANN401  # the application's state
        spec = self.spec
        if self._module is None:
            return None
        started = await self._starting("start", _BAD_RETURN, _NORMAL, spec.args)
        top, state = started if isinstance(started, tuple) else (started, None)
        if not isinstance(top, Process):
            shown = repr(started).encode(errors="replace")
            raise Exit((_BAD_RETURN, (self._called("start", _NORMAL, spec.args), shown)))
        self.top = top
        self.process.link(top)
        try:
            for phase, args in spec.start_phases:
                await self._starting("start_phase", _BAD_PHASE, Atom(phase), _NORMAL, args)
        except BaseException:
            await self._stop_top()
            raise
        return state

    async def _starting(self, callback: str, bad: Atom, *arguments: Any) -> Any:  # noqa: ANN401
        """Run a callback whose failure is the start's; the reason is that of OTP's."""
        called = self._called(callback, *arguments)
        try:
            return await settled(getattr(self._module, callback)(*arguments))
        except gen.StartError as error:
            # `{error, Reason}` there.
            raise Exit((error.reason, called)) from None
        except Exit as error:
            if error.reason == NORMAL:
                raise Exit(((gen.EXIT, NORMAL), called)) from None
            raise Exit((bad, (called, (gen.EXIT, error.reason)))) from None
        except Exception as error:  # noqa: BLE001  # whatever it raises, it is not started
            _log.exception("application %s: %s failed", self.spec.name, callback)
            raise Exit((bad, (called, (gen.EXIT, of_exception(error))))) from None

    def _called(self, callback: str, *arguments: Any) -> Term:  # noqa: ANN401  # any values
        name = type(self._module).__qualname__.encode()
        return name, Atom(callback), list(arguments)

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
