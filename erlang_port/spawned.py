"""Runs a command that dies with its parent: `python -I -m erlang_port.spawned PARENT COMMAND...`.

The kernel keeps PDEATHSIG over exec (prctl(2)), so that the command need know nothing of it, and
nothing has to run between fork and exec of a program that has threads. Standard library only.
"""

import os
import sys

from erlang_port import startup

#: As a shell has it: the command cannot be run.
NOT_RUN = 127


def main(arguments: list[str]) -> int:
    """Become the command; the exit status when that cannot be."""
    parent, *command = arguments
    startup.die_with_parent()
    if os.getppid() != int(parent):
        # It died before the kernel was told.
        return NOT_RUN
    try:
        os.execvp(command[0], command)  # noqa: S606  # no shell is wanted
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be run: {error.strerror}\n")
        return NOT_RUN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
