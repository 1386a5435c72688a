"""Monitoring of PostgreSQL: connections, slow queries, sizes, indexes, checks, advice."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.postgresql.monitoring.connections import PostgreSQLSessions
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "connections": "PostgreSQLSessions",
        },
    )
