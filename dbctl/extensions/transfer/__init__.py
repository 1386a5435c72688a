"""Transfers of databases between engines, and comparisons of two databases."""
