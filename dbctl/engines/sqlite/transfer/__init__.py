"""Rows of SQLite as lines that are equal on every engine."""
