"""Prometheus metrics of the port and of the bridge."""
