"""The gen_server that is measured: it answers with the request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from erlang_port.otp.gen_server import GenServer, Ok, Reply

if TYPE_CHECKING:
    from erlang_port.otp.gen_server import From


class Echo(GenServer[None]):
    """As the programs beside it."""

    def init(self, args: Any) -> Ok[None]:  # noqa: ANN401, ARG002  # OTP's callback
        """See `GenServer.init`."""
        return Ok(None)

    def handle_call(self, message: Any, from_: From, state: None) -> Reply[None]:  # noqa: ANN401, ARG002
        """See `GenServer.handle_call`."""
        return Reply(message, state)


def echo(message: Any) -> Any:  # noqa: ANN401  # any term
    """What erlport calls."""
    return message
