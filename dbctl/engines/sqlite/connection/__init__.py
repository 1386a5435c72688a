"""Connections to a SQLite file: for reading, for writing, and rows written with sqlite-utils."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.sqlite.connection.base import UNDECODABLE, WAIT_SECONDS, SQLiteConnection
    from dbctl.engines.sqlite.connection.read import ReadConnection
    from dbctl.engines.sqlite.connection.row_writer import RowWriter
    from dbctl.engines.sqlite.connection.write import ScratchConnection, WriteConnection
