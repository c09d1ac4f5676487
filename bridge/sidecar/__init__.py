"""The sidecar: the program that connects to a node by itself, from beside it."""
