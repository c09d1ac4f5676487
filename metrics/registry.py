"""Megaphone's own registry: nothing that another library puts into the default one gets out."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, disable_created_metrics


def new_registry() -> CollectorRegistry:
    """Make an empty registry whose counters and histograms come without `_created` samples."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus-client types most
    return CollectorRegistry()
