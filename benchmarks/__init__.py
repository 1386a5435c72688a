"""Benchmarks: dbctl compared with common alternatives; run them with ``python -m benchmarks``."""
