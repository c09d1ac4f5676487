"""Calls from Erlang to Python, beside programs that only echo frames, and beside erlport."""
