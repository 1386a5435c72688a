"""Rows of PostgreSQL as lines that are equal on every engine."""
