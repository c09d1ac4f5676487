"""GenServers among themselves, beside tasks with queues: casts, and the memory of idle ones."""
