"""What the node may ask of fan-out by name: `fanout`, see docs/protocol.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.fanout.limits import MAX_TEMPLATES
from bridge.fanout.pool import PoolOverloadError
from bridge.fanout.tasks import WorkerCrashError
from erlang_port.transports.fds import CallError

if TYPE_CHECKING:
    from bridge.fanout.pool import WorkerPool
    from erlang_port.etf import Term
    from erlang_port.transports.fds import PortConnection

NAME = "fanout"


def register(port: PortConnection, pool: WorkerPool) -> None:
    """Answer calls to `fanout` and take batches.

    Args:
        port: the connection, which is not connected yet.
        pool: where the work is done.
    """

    async def handle(request: Term) -> Term:
        match request:
            case ("prepare", [*sources]) if 0 < len(sources) <= MAX_TEMPLATES and all(
                type(source) is bytes for source in sources
            ):
                try:
                    return await pool.prepare(sources)
                except PoolOverloadError as error:
                    raise CallError("overload", str(error)) from None
                except WorkerCrashError as error:
                    raise CallError("crash", str(error)) from None
        raise CallError("badarg", f"the request is {{prepare, [Template]}}, 1 to {MAX_TEMPLATES}")

    port.register(NAME, handle)
    port.on_batch = pool.submit
    port.on_batch_cancel = pool.cancel
