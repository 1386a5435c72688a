"""Statistics of an app and of its databases."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.stats.connections import (
        NO_SERVER_HINT,
        BlockedSession,
        Connection,
        SlowStatement,
        require_sessions,
    )
    from dbctl.services.stats.indexes import IndexProblem, IndexStats, TableBloat
    from dbctl.services.stats.reports import read_defaults, select_variant
    from dbctl.services.stats.tables import AuditEntry, DatabaseStats, LockHolder, TableStats, UserStats
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "connections": "BlockedSession Connection NO_SERVER_HINT SlowStatement require_sessions",
            "indexes": "IndexProblem IndexStats TableBloat",
            "reports": "read_defaults select_variant",
            "tables": "AuditEntry DatabaseStats LockHolder TableStats UserStats",
        },
    )
