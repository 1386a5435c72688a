"""Schemas of SQLite for other engines, and derived from other engines."""
