"""Schemas of PostgreSQL for other engines, and derived from other engines."""
