"""PostgreSQL: reads run in read-only transactions, and a wait for a lock is reported with its holder.

The package does not import the driver, so that scripts can be parsed without it; ``database`` does.
"""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.postgresql.database import PostgreSQLReader, PostgreSQLWriter
    from dbctl.engines.postgresql.engine import ENGINE
    from dbctl.engines.postgresql.scratch import PostgreSQLScratch
