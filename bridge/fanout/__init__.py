"""Batches: columns of values, templates run over them, the workers that do it and their pool."""
