"""Copies of a database to the same product: the statements of its schema, and rows as literals."""
