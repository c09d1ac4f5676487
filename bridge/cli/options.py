"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

#: How the node is reached.
EjabberdctlOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--ejabberdctl",
        help="ejabberdctl's path, or a command line such as "
        "'ejabberdctl --config-dir /srv/xmpp'; looked for when absent.",
        envvar="MEGAPHONE_EJABBERDCTL",
    ),
]

JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="One JSON document.")]
