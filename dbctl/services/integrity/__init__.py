"""Repair of rows that differ from those of another database, and of times in several forms."""
