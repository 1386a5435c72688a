"""Rows of MySQL and MariaDB as lines that are equal on every engine."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.mysql.transfer.sink import MySQLRowSink
    from dbctl.engines.mysql.transfer.source import ESCAPED, MySQLRowSource
    from dbctl.engines.mysql.transfer.write_lock import MySQLWriteLock
    from dbctl.engines.mysql.transfer.write_proof import MySQLWriteProofs
