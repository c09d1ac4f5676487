"""Hypothesis: no deadline, a busy machine is no failure."""

from hypothesis import settings

settings.register_profile("etf", deadline=None)
settings.load_profile("etf")
