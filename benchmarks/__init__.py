"""Benchmarks: how fast the rooms are, measured by `python -m benchmarks`."""
