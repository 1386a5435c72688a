"""Backup of PostgreSQL: dump, load, restore target, client programs."""
