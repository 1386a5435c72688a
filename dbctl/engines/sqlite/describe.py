"""What a SQLite file tells of its whole schema, read at one moment."""

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
_OF_TABLES = "from sqlite_master m join {} where m.name in (select value from json_each(:tables)) order by {}"
_COLUMNS = 'select m.name, x.name, x.type, x."notnull", x.dflt_value, x.pk ' + _OF_TABLES.format(
    "pragma_table_xinfo(m.name) x", "m.name, x.cid"
)
_KEYS = 'select m.name, f.id, f."from", f."table", f."to", f.on_update, f.on_delete ' + _OF_TABLES.format(
    "pragma_foreign_key_list(m.name) f", "m.name, f.id, f.seq"
)
_INDEXES = 'select m.name, l.name, l."unique", l.origin, i.name, i."desc", i.coll ' + _OF_TABLES.format(
    "pragma_index_list(m.name) l join pragma_index_xinfo(l.name) i on i.key = 1", "m.name, l.name, i.seqno"
)


class SQLiteDescribes(SQLiteDialect):
    """Capability.SCHEMA."""

    @abstractmethod
    def _rows(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        """Run one reading statement once and return its rows."""

    def schema(self) -> Schema:
        from dbctl.engines.sqlite.schema import Told

        return Told(*self._steadily(self._told)).schema()

    def fingerprint(self) -> str:
        from dbctl.engines.contract import fingerprint

        return fingerprint(self.schema())

    def comments(self, table: str) -> Mapping[str, str]:
        self._checked(table)
        return {}  # SQLite stores none but those in the text of a statement

    def _told(self) -> list[list[Row]]:
        """Read everything, again where somebody changed the schema in between."""
        import json

        while True:
            version = self._rows("pragma schema_version", {})
            entries = self._rows(_ENTRIES, {})
            given = {
                "tables": json.dumps(
                    [name for kind, name, _, sql in entries if _is_asked(str(kind), str(name), str(sql))]
                )
            }
            answers = [self._rows(sql, given) for sql in (_COLUMNS, _KEYS, _INDEXES)]
            if self._rows("pragma schema_version", {}) == version:
                return [entries, *answers]


def _is_asked(kind: str, name: str, sql: str) -> bool:
    """Whether a pragma can tell of it: of a module that only the app loads, or a name that is no text, none can."""
    return kind == "table" and is_storable(name) and not re.match(VIRTUAL, sql)
