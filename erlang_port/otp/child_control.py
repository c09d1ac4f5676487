"""Starting and stopping a supervisor's children, one or several in order."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from erlang_port.otp import gen
from erlang_port.otp.process import Process
from erlang_port.otp.reasons import Exit, of_exception
from erlang_port.otp.server import describe
from erlang_port.otp.shutdown import expected, shut_down

if TYPE_CHECKING:
    from collections.abc import Iterable

    from erlang_port.etf import Term
    from erlang_port.otp.children import Child, Children

log: Final = logging.getLogger("megaphone.otp.supervisor")


class ChildControl:
    """What a supervisor does with its children.

    Args:
        process: The supervisor.
        children: Who is supervised.
    """

    def __init__(self, process: Process, children: Children) -> None:
        self._process = process
        self._children = children

    async def start(self, child: Child) -> gen.StartError | None:
        """Start a child; why it could not be."""
        try:
            started: object = await child.spec.start(*child.args)
        except gen.StartError as error:
            return error
        except Exception as error:  # whatever it raises, it is not started
            if not isinstance(error, Exit):
                log.error("%s: start of %s", self._process.label, child.spec.id, exc_info=error)
            return gen.StartError((gen.EXIT, of_exception(error)))
        if not (started is None or isinstance(started, Process)):
            return gen.StartError(repr(started).encode(errors="replace"))
        self._children.started(child, started)
        if started is not None:
            # Most are linked by their start; one that is not would end unnoticed.
            self._process.link(started)
        return None

    async def start_all(self, children: Iterable[Child]) -> tuple[Child, Term] | None:
        """Start children in their order; the first that could not be, and why."""
        for child in children:
            failure = await self.start(child)
            if failure is not None:
                self._log_error(child, "did not start", failure.reason)
                return child, failure.reason
            if child.temporary and child.process is None:
                self._children.remove(child)
        return None

    async def stop(self, child: Child) -> None:
        """Stop a child; a temporary one is forgotten."""
        process = child.process
        if process is not None:
            how = child.spec.shutdown_time
            reason = await shut_down(process, self._process, how)
            if not expected(how, reason, permanent=child.permanent):
                self._log_error(child, "did not stop as told", reason)
        self._children.stopped_or_forgotten(child)

    async def stop_all(self, children: Iterable[Child]) -> None:
        """Stop children in reverse order; temporary ones are forgotten."""
        for child in reversed(list(children)):
            await self.stop(child)

    def _log_error(self, child: Child, what: str, reason: Term) -> None:
        log.error("%s: child %s %s: %s", self._process.label, child.spec.id, what, describe(reason))
