"""Megaphone's version: the one place it is written, on both sides of the port."""

__version__ = "0.1.0"
