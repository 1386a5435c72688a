"""Rows of PostgreSQL as lines that are equal on every engine."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.postgresql.transfer.sink import PostgreSQLRowSink
    from dbctl.engines.postgresql.transfer.source import PostgreSQLRowSource, quote_value
    from dbctl.engines.postgresql.transfer.write_lock import PostgreSQLWriteLock
    from dbctl.engines.postgresql.transfer.write_proof import PostgreSQLWriteProofs
