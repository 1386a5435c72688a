"""Rows of SQLite as lines that are equal on every engine."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.sqlite.transfer.sink import SQLiteRowSink
    from dbctl.engines.sqlite.transfer.source import SQLiteRowSource
    from dbctl.engines.sqlite.transfer.values import LOSES_DIGITS, parse_exact, register_functions
    from dbctl.engines.sqlite.transfer.write_lock import SQLiteWriteLock
    from dbctl.engines.sqlite.transfer.write_proof import SQLiteWriteProofs
