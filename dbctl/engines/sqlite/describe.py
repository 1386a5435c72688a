"""The whole schema of a SQLite file, read in one snapshot."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dbctl.engines.sql.catalog import Row, is_storable

if TYPE_CHECKING:
    from dbctl.engines.contract.schema import Schema
    from dbctl.engines.sqlite.reader import SQLiteDatabase

VIRTUAL = r"(?i)create\s+virtual\b"

_ENTRIES = "select type, name, tbl_name, sql from sqlite_master where name not like 'sqlite!_%' escape '!' order by lower(name), name"
_FROM_TABLES = (
    "from sqlite_master m join {} where m.name in (select value from json_each(:tables)) order by {}"
)
_COLUMNS = 'select m.name, x.name, x.type, x."notnull", x.dflt_value, x.pk ' + _FROM_TABLES.format(
    "pragma_table_xinfo(m.name) x", "m.name, x.cid"
)
_KEYS = 'select m.name, f.id, f."from", f."table", f."to", f.on_update, f.on_delete ' + _FROM_TABLES.format(
    "pragma_foreign_key_list(m.name) f", "m.name, f.id, f.seq"
)
_INDEXES = 'select m.name, l.name, l."unique", l.origin, i.name, i."desc", i.coll ' + _FROM_TABLES.format(
    "pragma_index_list(m.name) l join pragma_index_xinfo(l.name) i on i.key = 1", "m.name, l.name, i.seqno"
)


class SQLiteSchemaReader:
    """The part ``SchemaReader``."""

    def __init__(self, db: SQLiteDatabase) -> None:
        self._connection, self._catalog = db.connection, db.catalog

    def schema(self) -> Schema:
        from dbctl.engines.sqlite.schema import build_schema

        return build_schema(*self._connection.retry_if_changed(self._read_catalog))

    def fingerprint(self) -> str:
        from dbctl.engines.contract.schema import fingerprint

        return fingerprint(self.schema())

    def comments(self, table: str) -> Mapping[str, str]:
        self._catalog.require_table(table)
        return {}  # SQLite stores comments only in the text of statements

    def _read_catalog(self) -> list[tuple[Row, ...]]:
        """Read the catalog and the pragmas; read again if another connection changed the schema in between."""
        import json

        while True:
            version = self._connection.rows("pragma schema_version")
            entries = self._connection.rows(_ENTRIES)
            parameters = {
                "tables": json.dumps(
                    [name for kind, name, _, sql in entries if _has_pragmas(str(kind), str(name), str(sql))]
                )
            }
            details = [tuple(self._connection.rows(sql, parameters)) for sql in (_COLUMNS, _KEYS, _INDEXES)]
            if self._connection.rows("pragma schema_version") == version:
                return [tuple(entries), *details]


def _has_pragmas(kind: str, name: str, sql: str) -> bool:
    """Whether pragmas work: not for modules that only the app loads, nor for names that are not valid text."""
    return kind == "table" and is_storable(name) and not re.match(VIRTUAL, sql)
