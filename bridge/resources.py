"""Where the data lies that the wheel carries beside the Python packages."""

from __future__ import annotations

from pathlib import Path

import bridge
import metrics
from bridge.cli.errors import CommandError


def mod_megaphone_source() -> Path:
    """The ejabberd-contrib package mod_megaphone, in a checkout and in an installed wheel alike.

    It is looked for beside the `bridge` package, not imported as a namespace package: a directory
    called mod_megaphone that happens to stand on sys.path must not take its place.

    Raises:
        CommandError: FAILURE when this installation came without it.
    """
    source = Path(bridge.__file__).resolve().parent.parent / "mod_megaphone"
    if not (source / "mod_megaphone.spec").is_file():
        raise CommandError(
            f"{source} holds no mod_megaphone.spec",
            "install Megaphone again: its Erlang end is missing",
        )
    return source


def prometheus_files() -> Path:
    """What Prometheus reads: prometheus.yml, rules, consoles."""
    return Path(metrics.__file__).resolve().parent / "prometheus"
