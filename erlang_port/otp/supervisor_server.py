"""The process behind a supervisor: what supervisor(3) does with calls and exit signals.

A child's end comes as the exit signal of its link. While children are started or stopped no message
is taken, so that two ends, or an end and a request, never meet. A start that fails during a restart
is tried again by a message to itself, as in OTP, so that requests come in between.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final
from weakref import WeakValueDictionary

from erlang_port.etf import Atom, Term
from erlang_port.otp import gen, server
from erlang_port.otp.child_control import ChildControl, log
from erlang_port.otp.child_spec import ChildSpec, Flags, flags_error, spec_error, specs_error
from erlang_port.otp.children import Child, Children, RestartIntensity
from erlang_port.otp.gen_server import Ignore
from erlang_port.otp.process import Process
from erlang_port.otp.reasons import SHUTDOWN, Exit, is_quiet

if TYPE_CHECKING:
    from erlang_port.otp.gen import From

_OK: Final = Atom("ok")
_ERROR: Final = Atom("error")
_EXIT: Final = gen.EXIT
_NOT_FOUND: Final = (_ERROR, Atom("not_found"))
_RUNNING: Final = (_ERROR, Atom("running"))
_RESTARTING: Final = (_ERROR, Atom("restarting"))
_SIMPLE: Final = (_ERROR, Atom("simple_one_for_one"))
_TRY_AGAIN: Final = Atom("try_again_restart")

#: The supervisors of the processes that are one, for who looks at the tree.
servers: WeakValueDictionary[Process, SupervisorServer] = WeakValueDictionary()


class SupervisorServer(server.Server):
    """A supervisor's process.

    Attributes:
        flags: What `init` gave.
        children: Who is supervised.
        since: When it was started, by the monotonic clock.
    """

    __slots__ = (
        "__weakref__",
        "_control",
        "_intensity",
        "_template",
        "children",
        "flags",
        "since",
    )

    behaviour: ClassVar[Atom] = Atom("supervisor")

    def __init__(self, process: Process, module: Any) -> None:  # noqa: ANN401  # has `init`
        super().__init__(process, module)
        servers[process] = self
        self.flags = Flags()
        self.children = Children(simple=False)
        self._control = ChildControl(process, self.children)
        self._intensity = RestartIntensity(self.flags.intensity, self.flags.period)
        self._template: ChildSpec | None = None
        self.since = time.monotonic()

    # Start and end.

    async def initialise(self, args: Term) -> None:
        """See `erlang_port.otp.server.Server.initialise`."""
        self.process.trap_exit = True
        match await server.settled(self.module.init(args)):
            case Ignore():
                raise server.Ignored
            case (Flags() as flags, list() | tuple() as specs):
                pass
            case other:
                init = (type(self.module).__qualname__.encode(), Atom("init"), repr(other).encode())
                raise Exit((Atom("bad_return"), init))
        if (wrong := flags_error(flags)) is not None:
            raise Exit((Atom("supervisor_data"), wrong))
        self.flags = flags
        self._intensity = RestartIntensity(flags.intensity, flags.period)
        self.children = Children(simple=flags.simple)
        self._control = ChildControl(self.process, self.children)
        if flags.simple and len(specs) != 1:
            raise Exit((Atom("bad_start_spec"), [spec.record() for spec in specs]))
        if (wrong := specs_error(specs, flags)) is not None:
            raise Exit((Atom("start_spec"), wrong))
        if flags.simple:
            self._template = specs[0]
            return
        for spec in specs:
            self.children.add(Child(spec, spec.args))
        await self._start_first(list(self.children))

    async def _start_first(self, children: list[Child]) -> None:
        while (failed := await self._control.start_all(children)) is not None:
            child, reason = failed
            if child.spec.backoff is None:
                await self._control.stop_all(self.children)
                failure = (Atom("failed_to_start_child"), child.spec.id, reason)
                raise Exit((SHUTDOWN, failure))
            # It is waited for, from its first start on.
            children = self.children.after(child)[1:]
            self._later(child)

    async def terminate(self, reason: Term) -> None:
        """See `erlang_port.otp.server.Server.terminate`."""
        if self.flags.simple:
            # As in OTP they have one time together, and no order.
            await asyncio.gather(*map(self._control.stop, self.children))
        else:
            await self._control.stop_all(self.children)

    def state(self) -> Term:
        """See `erlang_port.otp.server.Server.state`."""
        return Atom("state"), Atom(self.flags.strategy), self._which_children()

    def replace_state(self, change: Callable[[Term], Term]) -> Term:
        """See `erlang_port.otp.server.Server.replace_state`."""
        raise Exit(Atom("not_supported"))

    async def change_code(self, old_version: Term, extra: Term) -> None:
        """See `erlang_port.otp.server.Server.change_code`."""
        raise Exit(Atom("not_supported"))

    # Messages.

    def handle(self, message: Term) -> server.Waiting:
        """See `erlang_port.otp.server.Server.handle`."""
        match message:
            case (tag, Process() as process, reason) if tag == _EXIT:
                child = self.children.ended(process)
                return None if child is None else self._child_ended(child, reason)
            case (tag, from_, request) if tag == gen.CALL:
                return self._call(from_, request)
            case (tag, (again, Child() as child)) if tag == gen.CAST and again == _TRY_AGAIN:
                # Stopped or removed since: nobody wants it any more.
                wanted = child.restarting and child in self.children
                return self._try_again(child) if wanted else None
            case (tag, *_) if tag == _EXIT:
                # Of somebody who linked to this process, or of a child that is forgotten.
                return None
        log.error("%s received an unexpected message", self.process.label)
        return None

    def _call(self, from_: From, request: Term) -> server.Waiting:
        answer: Term
        match request:
            case "which_children":
                answer = self._which_children()
            case "count_children":
                answer = self._count_children()
            case ("get_childspec", child_id):
                answer = self._get_childspec(child_id)
            case ("delete_child", child_id):
                answer = self._delete_child(child_id)
            case ("start_child", what):
                return self._answer_later(from_, self._start_child(what))
            case ("terminate_child", child_id):
                return self._answer_later(from_, self._terminate_child(child_id))
            case ("restart_child", child_id):
                return self._answer_later(from_, self._restart_child(child_id))
            case _:
                # OTP's supervisor crashes of it, and its children with it.
                answer = (_ERROR, (Atom("bad_call"), request))
        from_.tag.reply(answer)
        return None

    async def _answer_later(self, from_: From, answer: Any) -> None:  # noqa: ANN401  # a coroutine
        from_.tag.reply(await answer)

    # Requests, in the order of supervisor(3).

    def _count_children(self) -> Term:
        every = list(self.children)
        template = self._template
        specs = 1 if template is not None else len(every)
        supervisors = sum(child.spec.type == "supervisor" for child in every)
        return [
            (Atom("specs"), specs),
            (Atom("active"), sum(child.active for child in every)),
            (Atom("supervisors"), supervisors),
            (Atom("workers"), len(every) - supervisors),
        ]

    def _delete_child(self, child_id: Term) -> Term:
        child = self._find_stopped(child_id)
        if not isinstance(child, Child):
            return child
        self.children.remove(child)
        return _OK

    def _find_stopped(self, child_id: Term) -> Child | Term:
        """A child that does not run, or the error."""
        if self._template is not None:
            return _SIMPLE
        child = self.children.find(child_id)
        if child is None:
            return _NOT_FOUND
        if child.restarting:
            return _RESTARTING
        if child.process is not None:
            return _RUNNING
        return child

    def _get_childspec(self, child_id: Term) -> Term:
        child = self.children.find(child_id)
        if child is not None:
            return _OK, child.spec.term()
        if self._template is not None and self._template.id == child_id:
            return _OK, self._template.term()
        return _NOT_FOUND

    async def _restart_child(self, child_id: Term) -> Term:
        child = self._find_stopped(child_id)
        if not isinstance(child, Child):
            return child
        failure = await self._control.start(child)
        return (_OK, child.process) if failure is None else (_ERROR, failure.reason)

    async def _start_child(self, what: Term) -> Term:
        if self._template is not None:
            return await self._start_dynamic(self._template, what)
        if (wrong := spec_error(what, self.flags)) is not None:
            return _ERROR, wrong
        there = self.children.find(what.id)
        if there is not None:
            running = not there.restarting and there.process is not None
            already = (Atom("already_started"), there.process)
            return _ERROR, already if running else Atom("already_present")
        child = Child(what, what.args)
        failure = await self._control.start(child)
        if failure is not None:
            return _ERROR, (failure.reason, what.record())
        if child.process is not None or not child.temporary:
            self.children.add(child)
        return _OK, child.process

    async def _start_dynamic(self, template: ChildSpec, extra: Term) -> Term:
        if not isinstance(extra, list | tuple):
            return _ERROR, (_EXIT, Atom("badarg"))
        child = Child(template, (*template.args, *extra))
        failure = await self._control.start(child)
        if failure is not None:
            return _ERROR, failure.reason
        if child.process is not None:
            self.children.add(child)
        return _OK, child.process

    async def _terminate_child(self, child_id: Term) -> Term:
        if self._template is not None and not isinstance(child_id, Process):
            return _SIMPLE
        child = self.children.find(child_id)
        if child is None:
            # With simple_one_for_one OTP takes who has ended for a child that has.
            ended = isinstance(child_id, Process) and not child_id.alive
            return _OK if ended and self._template is not None else _NOT_FOUND
        await self._control.stop(child)
        if self._template is not None:
            self.children.remove(child)
        return _OK

    def _which_children(self) -> Term:
        simple = self._template is not None
        # OTP's order: the last one started comes first.
        return [
            (
                None if simple else child.spec.id,
                child.term,
                Atom(child.spec.type),
                child.spec.modules_term(),
            )
            for child in reversed(list(self.children))
        ]

    # Restarts.

    async def _child_ended(self, child: Child, reason: Term) -> None:
        quiet = is_quiet(reason)
        if not quiet or child.permanent:
            level = logging.WARNING if quiet else logging.ERROR
            text = server.describe(reason)
            log.log(level, "%s: child %s ended: %s", self._name, child.spec.id, text)
        if child.permanent or not (quiet or child.temporary):
            await self._restart(child)
            return
        if self._template is not None:
            self.children.remove(child)
        else:
            self.children.stopped_or_forgotten(child)
        if self._is_to_end_after(child):
            await self.stop(SHUTDOWN)

    def _is_to_end_after(self, child: Child) -> bool:
        how = self.flags.auto_shutdown
        if how == "never" or not child.spec.significant:
            return False
        rest = (other for other in self.children if other.spec.significant)
        return how == "any_significant" or not any(
            other.restarting or other.process is not None for other in rest
        )

    async def _restart(self, child: Child) -> None:
        """Restart a child that ended: at once, or when its backoff says."""
        if child.spec.backoff is not None:
            await self._control.stop_all(self._affected(child))
            self._later(child)
        elif self._intensity.allows():
            await self._start_again(child)
        else:
            text = f"{self._name}: {self._intensity}, the last of {child.spec.id}"
            # Here, since whatever takes the log elsewhere may be one of the children.
            log.critical("%s", text)
            self.module.gave_up = text
            self.children.stopped_or_forgotten(child)
            await self.stop(SHUTDOWN)

    async def _try_again(self, child: Child) -> None:
        if child.spec.backoff is not None:
            # It has waited, which is instead of counting.
            await self._start_again(child)
        else:
            await self._restart(child)

    async def _start_again(self, child: Child) -> None:
        affected = self._affected(child)
        await self._control.stop_all(affected)
        again = [one for one in affected if one in self.children]
        failed = await self._control.start_all(again)
        for one in again:
            one.restarts += one.process is not None
        if failed is not None:
            self._later(failed[0])
        elif self._template is not None and child.process is None:
            self.children.remove(child)

    def _affected(self, child: Child) -> list[Child]:
        """Who is restarted with a child, in the order of starting."""
        match self.flags.strategy:
            case "one_for_all":
                return list(self.children)
            case "rest_for_one":
                return self.children.after(child)
        return [child]

    def _later(self, child: Child) -> None:
        """Have the restart of a child tried again, by a message."""
        again = (gen.CAST, (_TRY_AGAIN, child))
        child.restart_later(functools.partial(self.process.send, again))

    @property
    def _name(self) -> str:
        return self.process.label
