"""Semantic search: nearest rows by their vectors, and the creation of vectors."""
