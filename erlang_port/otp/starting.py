"""Starting a server, and waiting until its `init` is done: what `proc_lib` does for OTP."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from erlang_port.etf import Atom, Term
from erlang_port.otp import gen
from erlang_port.otp.process import Process, Reference
from erlang_port.otp.reasons import NORMAL, TIMEOUT, Exit, of_exception
from erlang_port.otp.runtime import Runtime
from erlang_port.otp.server import Ignored

if TYPE_CHECKING:
    from collections.abc import Callable

    from erlang_port.otp.server import Server

_log = logging.getLogger("megaphone.otp")


async def start(
    engine: Callable[[Process, Any], Server],
    module: Any,  # noqa: ANN401  # whatever has the callbacks
    args: Term,
    *,
    name: Term = None,
    link: bool = False,
    timeout: float | None = None,
) -> Process | None:
    """Start a server and wait until its `init` is done.

    Args:
        engine: The behaviour.
        module: A class, which is made an object of, or an object with the callbacks.
        args: For `init`.
        name: None, or as `Runtime.register` takes it; the node has it too while there is a
            connection to one.
        link: Whether to link it to the process that runs now.
        timeout: Seconds for `init`, or None.

    Returns:
        The process, or None: `init` said `Ignore`.

    Raises:
        StartError: It was not started; a linked starter gets no exit signal for that.
    """
    runtime = Runtime.here()
    callbacks = module() if isinstance(module, type) else module
    process = Process(runtime, _label(module, name), runtime.running if link else None)
    if name is not None:
        try:
            runtime.register(name, process)
        except ValueError:
            process.end(NORMAL)
            raise gen.StartError((Atom("already_started"), runtime.whereis(name))) from None
    starting = Starting(process)
    process.run(_begin(engine(process, callbacks), args, name, starting))
    return process if await starting.wait(timeout) else None


class Starting(Reference):
    """Whether a process is there, or why not; who starts it waits for that (`proc_lib`)."""

    __slots__ = ("_outcome", "_parent", "_process")

    def __init__(self, process: Process) -> None:
        self._process = process
        self._parent = _Parent(process)
        self._outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        process.watch(self, self)
        if process.parent is not None and process.parent.alive:
            process.parent.watch(self._parent, self._parent)

    def link_parent(self) -> None:
        """Make a link of what there was of one meanwhile."""
        parent = self._process.parent
        if parent is not None and parent.alive:
            parent.unwatch(self._parent)
            self._process.link(parent)

    def done(self, started: bool) -> None:
        """It is there, or it wants not to be."""
        if not self._outcome.done():
            self._outcome.set_result(started)

    def down(self, reference: Reference, process: Process, reason: Term) -> None:
        """See `erlang_port.otp.process.Watcher`."""
        del reference, process
        if not self._outcome.done():
            self._outcome.set_exception(gen.StartError(reason))

    async def wait(self, timeout: float | None) -> bool:
        """Wait for it; a process that is not there in time is killed.

        Args:
            timeout: Seconds, or None.

        Returns:
            False: it wants not to be.

        Raises:
            StartError: It ended before, or was not there in time.
        """
        parent = self._process.parent
        try:
            async with asyncio.timeout(timeout):
                return await self._outcome
        except TimeoutError:
            self._process.exit("kill")
            raise gen.StartError(TIMEOUT) from None
        except asyncio.CancelledError:
            if parent is None or parent.alive:
                self._process.exit("kill")
            raise
        finally:
            self._process.unwatch(self)
            if parent is not None:
                parent.unwatch(self._parent)


class _Parent(Reference):
    """The half of a link that there is while `init` runs: who fails there signals nobody."""

    __slots__ = ("_process",)

    def __init__(self, process: Process) -> None:
        self._process = process

    def down(self, reference: Reference, process: Process, reason: Term) -> None:
        self._process.signal(process, reason)


async def _begin(server: Server, args: Term, name: Term, starting: Starting) -> None:
    process = server.process
    remote = process._runtime.remote
    try:
        if name is not None and remote is not None:
            await remote.expose(process, [name])
        await server.initialise(args)
    except Ignored:
        starting.done(False)
        process.end(NORMAL)
    except Exception as error:  # noqa: BLE001  # whatever it raises, it is not started
        if not isinstance(error, Exit):
            _log.error("%s %s: init failed", server.behaviour, process.label, exc_info=error)
        process.end(of_exception(error))
    else:
        starting.link_parent()
        starting.done(True)
        process.become(server.receive)
        waiting = server.begun()
        if waiting is not None:
            await waiting


def _label(module: Any, name: Term) -> str:  # noqa: ANN401  # whatever has the callbacks
    if name is not None:
        return str(name[1] if type(name) is tuple else name)
    if isinstance(label := getattr(module, "label", None), str):
        return label
    return module.__name__ if isinstance(module, type) else type(module).__name__
