"""Monitoring of PostgreSQL: connections, slow queries, sizes, indexes, checks, advice."""
