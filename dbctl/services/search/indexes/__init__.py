"""Indexes of searches: full-text indexes, external indexes, and the vector index of the semantic search."""
