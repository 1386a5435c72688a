"""Monitoring of PostgreSQL: connections, slow queries, sizes, indexes, checks, advice."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.postgresql.monitoring.sessions import PostgreSQLSessions
