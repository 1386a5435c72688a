"""Copies of a file to SQLite: the statements of its schema, and values with their types."""
