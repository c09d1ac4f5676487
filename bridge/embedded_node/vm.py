"""The command line and the environment of a private node's Erlang VM."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Final

import yaml

from bridge.embedded_node import script
from bridge.embedded_node.settings import ejabberd_yml

if TYPE_CHECKING:
    from bridge.embedded_node.installation import Installation
    from bridge.embedded_node.layout import Layout
    from bridge.embedded_node.state import NodeState

#: The variable that marks the VM and whatever it starts with the node's directory.
MARK: Final = "EMBEDDED_EJABBERD_DIRECTORY"

#: What a private node inherits from who starts it.
INHERITED: Final = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ", "USER", "LOGNAME")

# Standard input is a pipe that only the creator holds: at its end, however the creator ended, the
# VM ends too. Messages of other kinds are not expected; they are dropped rather than kept.
_WATCH_STANDARD_INPUT: Final = (
    "spawn(fun() -> Port = open_port({fd, 0, 0}, [in, eof, binary]), "
    "(fun Wait() -> receive {Port, eof} -> erlang:halt(1, [{flush, false}]); "
    "_ -> Wait() end end)() end)."
)

# Names are looked up here and in /etc/hosts only: nothing of a private node asks a name server.
_INETRC: Final = '{lookup, [file]}.\n{host, {127,0,0,1}, ["localhost"]}.\n'


def command(installation: Installation, layout: Layout, state: NodeState, tied: bool) -> list[str]:
    """The VM's command line. The cookie is not on it, and nothing asks for epmd.

    `-start_epmd false -erl_epmd_port` (kernel(6), OTP 19 and later): this node listens at the given
    port and needs no epmd to be found there.

    Args:
        installation: The installed ejabberd.
        layout: The node's directory.
        state: Name and ports.
        tied: Whether the VM ends when its standard input does.
    """
    return [
        str(installation.erl),
        *("-name", state.name),
        *("-start_epmd", "false", "-erl_epmd_port", str(state.distribution_port)),
        *("-kernel", "inet_dist_use_interface", "{127,0,0,1}"),
        *("-mnesia", "dir", f'"{layout.database}"'),
        *("-ejabberd", "quiet", "true"),
        *state.settings.erl_options,
        *(("-eval", _WATCH_STANDARD_INPUT) if tied else ()),
        *("-s", "ejabberd", "-noinput"),
    ]


def environment(installation: Installation, layout: Layout, state: NodeState) -> dict[str, str]:
    """The VM's environment: little is inherited, so that it is the same wherever it is started."""
    return {
        **{name: os.environ[name] for name in INHERITED if name in os.environ},
        "HOME": str(layout.home),
        "ERL_LIBS": installation.libraries,
        "ERL_INETRC": str(layout.inetrc),
        "ERL_CRASH_DUMP": str(layout.logs / "erl_crash.dump"),
        "EJABBERD_CONFIG_PATH": str(layout.configuration),
        "EJABBERD_LOG_PATH": str(layout.log),
        "CONTRIB_MODULES_PATH": str(layout.modules),
        **({"ERL_FLAGS": installation.flags} if installation.flags else {}),
        **state.settings.environment,
        MARK: str(layout.root),
    }


def write_files(installation: Installation, layout: Layout, state: NodeState) -> None:
    """Writes everything that the VM and its clients read."""
    layout.make()
    if not layout.cookie.exists():
        descriptor = os.open(
            layout.cookie, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400
        )
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(secrets.token_hex(32))
    layout.inetrc.write_text(_INETRC, encoding="ascii")
    write_configuration(layout, state)
    layout.ejabberdctl.write_text(script.ejabberdctl(installation, layout, state), encoding="utf-8")
    layout.ejabberdctl.chmod(0o700)


def write_configuration(layout: Layout, state: NodeState) -> None:
    """Writes ejabberd.yml, whole or not at all."""
    text = yaml.safe_dump(
        ejabberd_yml(state.settings, state.c2s_port), sort_keys=False, allow_unicode=True
    )
    part = layout.configuration.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(layout.configuration)
