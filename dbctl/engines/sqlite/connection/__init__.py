"""Connections to a SQLite file: for reading, for writing, and rows written with sqlite-utils."""
