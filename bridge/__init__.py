"""Megaphone: a sidecar and bridge for ejabberd."""
