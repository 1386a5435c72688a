"""Monitoring of PostgreSQL: connections, slow queries, sizes, indexes, checks, advice."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.postgresql.monitoring.advice import PostgreSQLAdvice
    from dbctl.engines.postgresql.monitoring.checks import PostgreSQLChecks
    from dbctl.engines.postgresql.monitoring.connections import PostgreSQLSessions
    from dbctl.engines.postgresql.monitoring.indexes import PostgreSQLIndexes
    from dbctl.engines.postgresql.monitoring.maintenance import PostgreSQLMaintenance
    from dbctl.engines.postgresql.monitoring.sizes import PostgreSQLSizes
    from dbctl.engines.postgresql.monitoring.slow_queries import PostgreSQLSlowQueries
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "advice": "PostgreSQLAdvice",
            "checks": "PostgreSQLChecks",
            "connections": "PostgreSQLSessions",
            "indexes": "PostgreSQLIndexes",
            "maintenance": "PostgreSQLMaintenance",
            "sizes": "PostgreSQLSizes",
            "slow_queries": "PostgreSQLSlowQueries",
        },
    )
