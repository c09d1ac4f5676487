"""The command line: one command a file, each with a `register` function that main.py calls."""
