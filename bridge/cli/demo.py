"""`megaphone demo`: all of it on a private node, with real XMPP clients."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from bridge.attach.ejabberdctl import Ejabberdctl
from bridge.cli import watching
from bridge.cli.broadcast import submit
from bridge.cli.errors import CommandError, ExitStatus
from bridge.cli.stage import stage
from bridge.embedded_node import EmbeddedNode

if TYPE_CHECKING:
    from bridge.cli.stage import Stage

#: Who is online. One name beyond ASCII, as names are.
USERS: Final = ("alice", "bob", "zoë")

TEXT: Final = "Hello {{ user }}! The tea is ready 🍵"

#: Seconds in which a message that was sent must have arrived.
ARRIVAL_TIMEOUT: Final = 15.0


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("demo")(demo)


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End after the broadcast instead of at Ctrl-C.")
    ] = False,
) -> None:
    """Start a private ejabberd, attach, log three clients in, broadcast, show what each received.

    Loopback only; a system-wide ejabberd is not touched, and nothing is left behind.
    """
    console = Console(highlight=False, markup=False, soft_wrap=True)
    with stage(console, "demo") as found, contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_meet(found, console, once=once))


async def _meet(found: Stage, console: Console, *, once: bool) -> None:
    from bridge.cli.demo_client import DemoClient  # Here: slixmpp is an extra.

    node = found.node
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for user in USERS:
            await asyncio.to_thread(node.register, user)
            client = DemoClient(f"{user}@localhost", EmbeddedNode.PASSWORD, node.c2s_port)
            stack.push_async_callback(client.disconnect)
            await client.connect()
            clients.append(client)
        console.print(f"online: {', '.join(client.jid for client in clients)}")
        console.print(f"megaphone broadcast '{TEXT}' --to online --watch")
        ended = await asyncio.to_thread(_broadcast, node, console)
        if ended.get("state") != "done":
            raise CommandError(
                f"the broadcast ended as {ended.get('state')}: {ended.get('error')}",
                f"the node's log: {node.log_path}",
                ExitStatus.FAILURE,
            )
        await _received(clients, console)
        console.print(f"sent {ended.get('sent')} of {ended.get('recipients')}")
        if once:
            return
        console.print("\nTry it yourself, in another terminal:")
        ctl = f"--ejabberdctl {node.ejabberdctl}"
        megaphone = shlex.quote(sys.argv[0]) if sys.argv[0].endswith("megaphone") else "megaphone"
        console.print(f"  {megaphone} status {ctl}")
        console.print(f"  {megaphone} broadcast 'Bye {{{{ user }}}}' --watch {ctl}")
        if found.url is not None:
            console.print(f"  curl {found.url}/metrics")
        console.print("Ctrl-C ends it.\n")
        while True:
            arrived = [asyncio.ensure_future(client.next_body()) for client in clients]
            done, pending = await asyncio.wait(arrived, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            for client, task in zip(clients, arrived, strict=True):
                if task in done:
                    console.print(f"{client.jid} received: {task.result()}")


def _broadcast(node: EmbeddedNode, console: Console) -> dict[str, Any]:
    ctl = Ejabberdctl.find(str(node.ejabberdctl))
    accepted = submit(ctl, {"template": TEXT, "to": "online"})
    return watching.follow(ctl, str(accepted["id"]), console)


async def _received(clients: list[Any], console: Console) -> None:
    table = Table("client", "received")
    for client in clients:
        try:
            async with asyncio.timeout(ARRIVAL_TIMEOUT):
                table.add_row(client.jid, await client.next_body())
        except TimeoutError as error:
            raise CommandError(
                f"{client.jid} received nothing within {ARRIVAL_TIMEOUT:.0f} s",
                "try again; it should not happen",
                ExitStatus.TIMEOUT,
            ) from error
    console.print(table)
