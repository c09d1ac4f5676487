"""The private ejabberdctl: ejabberd's own commands, for one node and for nobody else's.

Its interface is that of ejabberd's script as far as clients of a running node need it: the options
that choose a node are taken and change nothing, `--no-timeout` is passed on, and the exit statuses
are ejabberd_ctl's (0 success, 1 error, 2 usage, 3 node not running).
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.embedded_node.installation import Installation
    from bridge.embedded_node.layout import Layout
    from bridge.embedded_node.state import NodeState

_TEMPLATE = r"""#!/bin/sh
# Speaks to the private node {name}.
# `megaphone node start --dir {root}` starts it, `megaphone node stop --dir {root}` stops it.
HOME={home}
ERL_LIBS={libraries}
ERL_INETRC={inetrc}
ERL_CRASH_DUMP=/dev/null
EJABBERD_CONFIG_PATH={configuration}
EJABBERD_LOG_PATH={log}
CONTRIB_MODULES_PATH={modules}
export HOME ERL_LIBS ERL_INETRC ERL_CRASH_DUMP
export EJABBERD_CONFIG_PATH EJABBERD_LOG_PATH CONTRIB_MODULES_PATH
unset ERL_FLAGS ERL_AFLAGS ERL_ZFLAGS CONTRIB_MODULES_CONF_DIR
{flags}
no_timeout=
while [ $# -gt 0 ]; do
    case $1 in
        -n|--node|-s|--spool|-l|--logs|-f|--config|-c|--ctl-config|-d|--config-dir)
            if [ $# -lt 2 ]; then echo "ERROR: $1 wants a value" >&2; exit 2; fi
            shift 2 ;;
        -t|--no-timeout) no_timeout=--no-timeout; shift ;;
        *) break ;;
    esac
done

cd {database} || exit 6

# A node of its own name that listens nowhere; the cookie comes from HOME.
client() {{
    unique=$$-$(od -An -N6 -tx1 /dev/urandom | tr -d ' \n')
    {erl} -name "ctl-$unique@127.0.0.1" -hidden -noinput \
        -start_epmd false -erl_epmd_port {port} -dist_listen false \
        -kernel inet_dist_use_interface '{{127,0,0,1}}' "$@"
}}

ejabberd_ctl() {{
    client -s ejabberd_ctl -extra {name} $no_timeout "$@"
}}

# As in ejabberd's own script: 30 times, 2 seconds apart.
wait_status() {{
    tries=30
    while [ $tries -gt 0 ]; do
        ejabberd_ctl status >/dev/null
        [ $? -eq "$1" ] && return 0
        tries=$((tries - 1))
        sleep 2
    done
    return 1
}}

case ${{1:-}} in
    started) wait_status 0 ;;
    stopped) wait_status 3 ;;
    ping)
        client -eval 'io:format("~p~n", [net_adm:ping({quoted})]), halt().' ;;
    start|foreground|foreground-quiet|live|iexlive|debug|iexdebug|etop)
        echo "ERROR: $1: a private node is started by megaphone node start --dir" {root} >&2
        exit 2 ;;
    *) ejabberd_ctl "$@" ;;
esac
"""


def ejabberdctl(installation: Installation, layout: Layout, state: NodeState) -> str:
    """The text of the script."""
    quote = shlex.quote
    return _TEMPLATE.format(
        name=quote(state.name),
        quoted=f"'\\''{state.name}'\\''",
        root=quote(str(layout.root)),
        home=quote(str(layout.home)),
        libraries=quote(installation.libraries),
        inetrc=quote(str(layout.inetrc)),
        configuration=quote(str(layout.configuration)),
        log=quote(str(layout.log)),
        modules=quote(str(layout.modules)),
        database=quote(str(layout.database)),
        erl=quote(str(installation.erl)),
        port=state.distribution_port,
        flags=f"export ERL_FLAGS={quote(installation.flags)}" if installation.flags else "",
    )
