"""The whole schema of a SQLite file, read in one snapshot."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dbctl.engines.sql import Row, is_storable
from dbctl.engines.sqlite.dialect import SQLiteDialect

if TYPE_CHECKING:
    from dbctl.engines.contract import Schema

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


class SQLiteSchemaReader(SQLiteDialect):
    """Capability.SCHEMA."""

    @abstractmethod
    def _rows(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        """Run one reading statement once and return its rows."""

    def schema(self) -> Schema:
        from dbctl.engines.sqlite.schema import SchemaBuilder

        return SchemaBuilder(*self._retry_if_changed(self._read_catalog)).build()

    def fingerprint(self) -> str:
        from dbctl.engines.contract import fingerprint

        return fingerprint(self.schema())

    def comments(self, table: str) -> Mapping[str, str]:
        self._require_table(table)
        return {}  # SQLite stores comments only in the text of statements

    def _read_catalog(self) -> list[list[Row]]:
        """Read the catalog and the pragmas; read again if another connection changed the schema in between."""
        import json

        while True:
            version = self._rows("pragma schema_version", {})
            entries = self._rows(_ENTRIES, {})
            parameters = {
                "tables": json.dumps(
                    [name for kind, name, _, sql in entries if _has_pragmas(str(kind), str(name), str(sql))]
                )
            }
            details = [self._rows(sql, parameters) for sql in (_COLUMNS, _KEYS, _INDEXES)]
            if self._rows("pragma schema_version", {}) == version:
                return [entries, *details]


def _has_pragmas(kind: str, name: str, sql: str) -> bool:
    """Whether pragmas work: not for modules that only the app loads, nor for names that are not valid text."""
    return kind == "table" and is_storable(name) and not re.match(VIRTUAL, sql)
