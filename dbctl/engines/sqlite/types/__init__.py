"""Conversion of values for SQLite columns, and the forms of stored times."""
