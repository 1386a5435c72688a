"""Backups: create, verify, prune, copy, delete."""
