"""Monitoring of MySQL: connections, slow queries, sizes, indexes, checks, advice."""
