"""Maintenance tasks of databases, and cancellation of sessions."""
