"""supervisor: processes that are started in order, restarted by a strategy, stopped in reverse.

(OTP Design Principles, "Supervisor Behaviour"; supervisor(3).) A supervisor is a process, its
children are linked to it, and it is asked by the calls that OTP's is asked by, with OTP's answers.

    class Counters(Supervisor):
        def init(self, args):
            children = [ChildSpec("counter", gen_server.start_link, (Counter, 0))]
            return Flags(strategy="one_for_one"), children

    await supervisor.start_link(Counters)

A child is whatever its specification's `start` starts: a GenServer, another supervisor, a coroutine
(`erlang_port.otp.coroutine_child`), a process of the operating system
(`erlang_port.otp.os_process`). A supervisor that has restarted too often ends with reason
`shutdown` after its children. What differs from OTP: times are in seconds, a child may have a
`Backoff`, and a request that is none gets an error instead of taking the supervisor down.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from erlang_port.etf import Atom, Term
from erlang_port.otp import gen, starting
from erlang_port.otp.child_spec import BRUTAL_KILL, INFINITY, Backoff, ChildSpec, Flags
from erlang_port.otp.children import RESTARTING
from erlang_port.otp.gen import StartError
from erlang_port.otp.gen_server import Ignore
from erlang_port.otp.process import Process
from erlang_port.otp.supervisor_server import SupervisorServer

__all__ = [
    "BRUTAL_KILL",
    "INFINITY",
    "RESTARTING",
    "Backoff",
    "ChildCounts",
    "ChildError",
    "ChildInfo",
    "ChildSpec",
    "Flags",
    "Ignore",
    "Init",
    "Process",
    "StartError",
    "Supervisor",
    "Tree",
    "count_children",
    "delete_child",
    "get_childspec",
    "restart_child",
    "start",
    "start_child",
    "start_link",
    "terminate_child",
    "which_children",
]

#: What `init` gives: the flags, and the children in the order of starting.
Init: TypeAlias = tuple[Flags, Sequence[ChildSpec]] | Ignore

_MODULE: Final = Atom("supervisor")


class Supervisor:
    """The callback module.

    Attributes:
        gave_up: What was logged when the intensity was exceeded, or None: the reason of the end is
            `shutdown` then, too.
    """

    gave_up: str | None = None

    def init(self, args: Any) -> Init | Awaitable[Init]:  # noqa: ANN401  # any term
        """Say who is supervised, and how."""
        raise NotImplementedError


class Tree(Supervisor):
    """A supervisor that needs no code.

    Args:
        label: What it is, for the log.
        flags: See `Flags`.
        children: In the order of starting.
    """

    def __init__(self, label: str, flags: Flags, children: Sequence[ChildSpec]) -> None:
        self.label = label
        self._init = flags, children

    def init(self, args: Any) -> Init:  # noqa: ANN401  # any term
        """See `Supervisor.init`."""
        del args
        return self._init


class ChildInfo(NamedTuple):
    """What `which_children` tells of a child.

    Attributes:
        id: None with `simple_one_for_one`.
        child: The process, `RESTARTING`, or None where there is none.
        type: worker or supervisor.
        modules: See `ChildSpec.modules`.
    """

    id: Term
    child: Process | Atom | None
    type: Atom
    modules: Term


class ChildCounts(NamedTuple):
    """What `count_children` tells: how many specifications, how many run, and of which type."""

    specs: int
    active: int
    supervisors: int
    workers: int


class ChildError(Exception):
    """A request cannot be fulfilled.

    Attributes:
        reason: As in supervisor(3): `not_found`, `running`, `restarting`, `simple_one_for_one`,
            `already_present`, `{already_started, Child}`, why a start failed, what is wrong with a
            specification.
    """

    def __init__(self, reason: Term) -> None:
        super().__init__(reason)
        self.reason = reason


async def start_link(
    module: type[Supervisor] | Supervisor,
    args: Any = None,  # noqa: ANN401  # any term
    *,
    name: Term = None,
) -> Process | None:
    """Start a supervisor with its children, linked to the process that runs now.

    Args:
        module: A class, which is made an object of, or an object.
        args: For `init`.
        name: None, or as `erlang_port.otp.runtime.Runtime.register` takes it.

    Returns:
        The process, or None: `init` said `Ignore`.

    Raises:
        StartError: `{shutdown, {failed_to_start_child, Id, Reason}}`, after those that were started
            have been stopped; `{already_started, Pid}`; `{bad_return, _}`, `{supervisor_data, _}`,
            `{start_spec, _}`, `{bad_start_spec, _}`: what `init` gave is wrong.
    """
    return await starting.start(SupervisorServer, module, args, name=name, link=True)


async def start(
    module: type[Supervisor] | Supervisor,
    args: Any = None,  # noqa: ANN401  # any term
    *,
    name: Term = None,
) -> Process | None:
    """Start a supervisor that is linked to nobody; OTP has none such. See `start_link`."""
    return await starting.start(SupervisorServer, module, args, name=name)


async def start_child(supervisor: Term, child: ChildSpec | Sequence[Any]) -> Process | None:
    """Start another child.

    Args:
        supervisor: As `erlang_port.otp.runtime.Runtime.whereis` takes it.
        child: Its specification; with `simple_one_for_one` the arguments that come after the
            specification's own.

    Returns:
        The child, or None: its start found nothing to start.

    Raises:
        ChildError: The child is there already, its specification is wrong, or it did not start.
    """
    return _process(await _ask(supervisor, (Atom("start_child"), child)))


async def terminate_child(supervisor: Term, child_id: Term) -> None:
    """Stop a child, which stays stopped until `restart_child`; a temporary one is forgotten.

    Args:
        supervisor: As for `start_child`.
        child_id: Its id; with `simple_one_for_one` its process.

    Raises:
        ChildError: `not_found`, `simple_one_for_one`.
    """
    await _ask(supervisor, (Atom("terminate_child"), child_id))


async def restart_child(supervisor: Term, child_id: Term) -> Process | None:
    """Start a child that is stopped; it is no restart that counts.

    Raises:
        ChildError: `not_found`, `running`, `restarting`, `simple_one_for_one`, or it did not start.
    """
    return _process(await _ask(supervisor, (Atom("restart_child"), child_id)))


async def delete_child(supervisor: Term, child_id: Term) -> None:
    """Forget a child that is stopped.

    Raises:
        ChildError: `not_found`, `running`, `restarting`, `simple_one_for_one`.
    """
    await _ask(supervisor, (Atom("delete_child"), child_id))


async def get_childspec(supervisor: Term, child_id: Term) -> dict[Term, Term]:
    """The specification of a child as OTP's map, times in milliseconds.

    Raises:
        ChildError: `not_found`.
    """
    specification = (await _ask(supervisor, (Atom("get_childspec"), child_id)))[1]
    assert isinstance(specification, dict)  # noqa: S101  # see ChildSpec.term
    return specification


async def which_children(supervisor: Term) -> list[ChildInfo]:
    """The children, the last one started first."""
    return [ChildInfo(*child) for child in await _ask(supervisor, Atom("which_children"))]


async def count_children(supervisor: Term) -> ChildCounts:
    """How many children there are."""
    counts = dict(await _ask(supervisor, Atom("count_children")))
    return ChildCounts(*(counts[field] for field in ChildCounts._fields))


async def _ask(supervisor: Term, request: Term) -> Any:  # noqa: ANN401  # as the request has it
    # As in OTP there is no limit of time: a child may take what it wants to start.
    answer = await gen.call(supervisor, gen.CALL, request, None, _MODULE)
    if type(answer) is tuple and answer[0] == "error":
        raise ChildError(answer[1])
    return answer


def _process(answer: Any) -> Process | None:  # noqa: ANN401  # {ok, Child}
    process = answer[1]
    assert process is None or isinstance(process, Process)  # noqa: S101  # nothing else is started
    return process
