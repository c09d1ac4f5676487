"""How frames travel: thin shells around `erlang_port.protocol`."""
