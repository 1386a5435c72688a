"""Monitoring of MySQL and MariaDB: connections, slow queries, sizes, indexes, advice."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.mysql.monitoring.advice import MySQLAdvice
    from dbctl.engines.mysql.monitoring.checks import MySQLChecks
    from dbctl.engines.mysql.monitoring.connections import MySQLSessions
    from dbctl.engines.mysql.monitoring.indexes import MySQLIndexes
    from dbctl.engines.mysql.monitoring.maintenance import MySQLMaintenance
    from dbctl.engines.mysql.monitoring.sizes import MySQLSizes
    from dbctl.engines.mysql.monitoring.slow_queries import MySQLSlowQueries
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "advice": "MySQLAdvice",
            "checks": "MySQLChecks",
            "connections": "MySQLSessions",
            "indexes": "MySQLIndexes",
            "maintenance": "MySQLMaintenance",
            "sizes": "MySQLSizes",
            "slow_queries": "MySQLSlowQueries",
        },
    )
