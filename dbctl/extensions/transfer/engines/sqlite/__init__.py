"""Rows, schemas and values of SQLite for transfers: to other engines as equal lines, and to SQLite as they are."""
