"""The port: Erlang terms, frames, the protocol and its transports. Knows nothing of XMPP."""
