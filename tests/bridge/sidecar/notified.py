"""What a program has said to systemd's socket."""


def heard(listener):
    """The datagrams that wait, as text."""
    said = []
    while True:
        try:
            said.append(listener.recv(4096).decode())
        except BlockingIOError:
            return said
