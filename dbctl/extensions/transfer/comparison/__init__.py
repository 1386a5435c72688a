"""Comparisons of two databases: their schemas, and their rows."""
