"""Portable schemas: what the SQL engines share to read them and to derive statements from them."""
