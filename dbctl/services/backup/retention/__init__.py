"""Retention of backups: the rules, their application, and pins."""
