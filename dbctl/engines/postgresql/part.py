"""Base class of the parts of a database."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbctl.engines.postgresql.database import PostgreSQLDatabase


class PostgreSQLPart:
    def __init__(self, db: PostgreSQLDatabase) -> None:
        self._db, self._connection, self._catalog = db, db.connection, db.catalog
