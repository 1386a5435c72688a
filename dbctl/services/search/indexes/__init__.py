"""Indexes of searches: full-text indexes, and those of extensions."""
