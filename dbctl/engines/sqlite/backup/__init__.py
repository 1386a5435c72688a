"""Backup of SQLite: copy, load, restore target, foreign dumps."""
