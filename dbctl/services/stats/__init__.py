"""Statistics of an app and of its databases."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
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
