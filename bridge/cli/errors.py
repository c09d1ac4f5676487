"""What every command fails with: what happened, what to do, and an exit status for scripts."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """The exit statuses of `megaphone`; docs/exit-statuses.md lists them for scripts."""

    OK = 0
    #: Something failed that has no status of its own.
    FAILURE = 1
    #: The command line is wrong.
    USAGE = 2
    #: The node does not run, or is not on this machine.
    NODE_NOT_RUNNING = 3
    EJABBERDCTL_NOT_FOUND = 4
    #: The node's configuration stands in the way.
    CONFIGURATION = 5
    #: This user, or the node's, may not do what is needed.
    PERMISSION = 6
    #: A version that Megaphone does not work with.
    INCOMPATIBLE = 7
    #: mod_megaphone is there, and its port program is not.
    PORT_PROGRAM_DOWN = 8
    #: Something did not answer in time; it may still happen.
    TIMEOUT = 9
    #: The node refused the request: a bad template, an unknown audience.
    REFUSED = 10
    #: Ended by Ctrl-C (128 + SIGINT).
    INTERRUPTED = 130
    #: Ended by SIGTERM (128 + SIGTERM).
    TERMINATED = 143


class CommandError(Exception):
    """A failure that the operator can do something about.

    Attributes:
        what: What happened, without a full stop.
        remedy: What to do about it, without a full stop; may be empty.
        status: The exit status of the command.
    """

    def __init__(
        self, what: str, remedy: str = "", status: ExitStatus = ExitStatus.FAILURE
    ) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.status = status

    def __str__(self) -> str:
        return f"{self.what}. {self.remedy}" if self.remedy else self.what
