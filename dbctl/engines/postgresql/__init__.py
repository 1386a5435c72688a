"""PostgreSQL: reads run in read-only transactions, and a wait for a lock is reported with its holder.

The package does not import the driver, so that scripts can be parsed without it; ``reader`` and ``writer`` do.
"""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.postgresql.engine import ENGINE
    from dbctl.engines.postgresql.reader import PostgreSQLReader, holders_of
    from dbctl.engines.postgresql.scratch import PostgreSQLScratch
    from dbctl.engines.postgresql.writer import PostgreSQLWriter
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "engine": "ENGINE",
            "reader": "PostgreSQLReader holders_of",
            "scratch": "PostgreSQLScratch",
            "writer": "PostgreSQLWriter",
        },
    )
