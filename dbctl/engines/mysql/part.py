"""Base class of the parts of a database."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbctl.engines.mysql.database import MySQLDatabase


class MySQLPart:
    def __init__(self, db: MySQLDatabase) -> None:
        self._db, self._connection, self._catalog = db, db.connection, db.catalog
