"""Connections to a SQLite file: for reading, for writing, and rows written with sqlite-utils."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.sqlite.connection.base import WAIT_SECONDS, SQLiteConnection
    from dbctl.engines.sqlite.connection.read import ReadConnection
    from dbctl.engines.sqlite.connection.row_writer import RowWriter
    from dbctl.engines.sqlite.connection.write import ScratchConnection, WriteConnection
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "base": "SQLiteConnection WAIT_SECONDS",
            "read": "ReadConnection",
            "row_writer": "RowWriter",
            "write": "ScratchConnection WriteConnection",
        },
    )
