"""Asking a node from outside, through OTP's erl_call (erl_interface, "erl_call")."""

from __future__ import annotations

import base64
import itertools
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bridge.cli.errors import ExitStatus
from bridge.embedded_node.errors import EmbeddedNodeError
from bridge.embedded_node.ports import LOOPBACK

#: Seconds beyond erl_call's own limit before it is killed.
_GRACE: Final = 5.0

# Source and answer travel in Base64: erl_call's own input and output are not UTF-8. An answer
# begins with `ok ` or `error `.
_PROGRAM: Final = """
MegaphoneAnswer = try
    {{ok, MegaphoneTokens, _}} =
        erl_scan:string(unicode:characters_to_list(base64:decode("{source}"))),
    case erl_parse:parse_exprs(MegaphoneTokens) of
        {{ok, MegaphoneForms}} ->
            {{value, MegaphoneValue, _}} = erl_eval:exprs(MegaphoneForms, []),
            io_lib:format("ok ~0tp", [MegaphoneValue]);
        {{error, {{_, _, MegaphoneText}}}} ->
            io_lib:format("error syntax: ~ts", [lists:flatten(MegaphoneText)])
    end
catch MegaphoneClass:MegaphoneReason ->
    io_lib:format("error ~0tp:~0tp", [MegaphoneClass, MegaphoneReason])
end,
io:put_chars(base64:encode_to_string(unicode:characters_to_binary(MegaphoneAnswer))), ok.
"""

_counter = itertools.count()


@dataclass(frozen=True, slots=True)
class ErlCall:
    """erl_call for one node.

    Attributes:
        program: Its path.
        home: A directory with the node's .erlang.cookie.
        port: The node's distribution port on loopback.
    """

    program: Path
    home: Path
    port: int

    def evaluate(self, expressions: str, timeout: float) -> str:
        """Evaluates Erlang expressions on the node.

        Args:
            expressions: Expressions, separated by commas; the full stop may be left out.
            timeout: Seconds, at least 1.

        Returns:
            The last one's value as `~0tp` prints it: Erlang text, on one line.

        Raises:
            EmbeddedNodeError: NODE_NOT_RUNNING, TIMEOUT, or FAILURE with the exception's class and
                reason, or with the syntax error.
        """
        source = expressions.strip().rstrip(".") + "."
        encoded = base64.b64encode(source.encode()).decode("ascii")
        outcome = self._run(_PROGRAM.format(source=encoded), timeout)
        kind, _, text = outcome.partition(" ")
        if kind == "ok":
            return text
        raise EmbeddedNodeError(f"{_short(source)} raised {text}")

    def _run(self, program: str, timeout: float) -> str:
        # A name of its own for each call: the node refuses a second connection of one name.
        name = f"call_{os.getpid()}_{next(_counter)}"
        seconds = max(1, round(timeout))
        command = [
            *(str(self.program), "-h", name, "-address", f"{LOOPBACK}:{self.port}"),
            *("-timeout", str(seconds), "-e", "-fetch_stdout", "-no_result_term"),
        ]
        environment = {"HOME": str(self.home), "PATH": os.environ.get("PATH", os.defpath)}
        try:
            outcome = subprocess.run(
                command,
                input=program.encode("ascii"),
                capture_output=True,
                env=environment,
                timeout=seconds + _GRACE,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise _timed_out(timeout) from error
        if outcome.returncode < 0:
            # erl_call ends itself by SIGALRM when its time is over.
            raise _timed_out(timeout)
        if outcome.returncode != 0 or not outcome.stdout:
            said = outcome.stderr.decode(errors="replace").strip()
            raise EmbeddedNodeError(
                f"the node does not answer at {LOOPBACK}:{self.port} ({said or 'no answer'})",
                "start it: megaphone node start",
                ExitStatus.NODE_NOT_RUNNING,
            )
        return base64.b64decode(outcome.stdout).decode()


def _timed_out(timeout: float) -> EmbeddedNodeError:
    return EmbeddedNodeError(
        f"the node did not answer within {timeout:.0f} s", "", ExitStatus.TIMEOUT
    )


def _short(source: str) -> str:
    return source if len(source) <= 200 else source[:200] + "..."
