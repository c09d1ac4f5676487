"""Prometheus metrics of the node, of the port and of the bridge."""
