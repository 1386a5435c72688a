"""Copies of a database to another one: portable schemas and rows as lines, and what the same product reads without conversion."""
