"""The live tables and views of a SQLite file, and its whole schema, read in one snapshot."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Literal, cast

from dbctl.engines.contract.database import Column, Reference, Table
from dbctl.engines.sql.catalog import Catalog, Row, ident, is_storable, lower_ascii
from dbctl.engines.sqlite.connection import SQLiteConnection
from dbctl.errors.connection import QueryFailedError
from dbctl.errors.usage import ValueInvalidError

if TYPE_CHECKING:
    from dbctl.engines.contract.schema import Schema
    from dbctl.engines.sqlite.database import SQLiteDatabase


_ALL_TABLES = """select name, type, sql from sqlite_master
where type in ('table', 'view') and substr(name, 1, 7) <> 'sqlite_'"""
_ALL_COLUMNS = """select m.name, x.cid, x.name, x.type, x."notnull", x.dflt_value, x.pk, x.hidden
from sqlite_master m, pragma_table_xinfo(m.name) x where m.type in ('table', 'view') order by m.rowid, x.cid"""
#: Defaults that write the current UTC time with seconds, in lower case and without blanks.
_CLOCK_DEFAULT = (
    r"current_timestamp|datetime\('now'(,'subsec(ond)?')?\)|strftime\('%y-%m-%dt?%h:%m:%[sf]z?','now'\)"
    r"|\(*(cast\()?\(*(strftime\('%s','now'\)|unixepoch\(('now'(,'subsec(ond)?')?)?\))\)*(asint(eger)?\))?\)*(\*1000)?\)*"
)
#: The foreign keys of some tables, one row for each column.
_REFERENCES = """select m.name, f.id, f."table", f."from", f."to", f.on_delete
from sqlite_master m join pragma_foreign_key_list(m.name) f
where m.type = 'table' and m.name in (select value from json_each(:tables)) order by m.rowid, f.id, f.seq"""
#: The columns of a primary key in the order of its declaration.
_KEY_COLUMNS = "select name from pragma_table_info(:table) where pk order by pk"
#: Up to this number of tables, each is read with a separate query.
MAX_SINGLE_READS = 3


class SQLiteCatalog(Catalog):
    """The tables and views, read by pragmas.

    sqlite-utils is not used here: reading commands must not wait for its import, and it reports neither generated columns
    nor names that are not valid UTF-8.
    """

    def __init__(self, connection: SQLiteConnection) -> None:
        super().__init__(connection.target)
        self._connection = connection
        self._known_tables: Mapping[Row, Table] = {}  #: by their row of ``sqlite_master``
        self._single_tables: dict[str, Table | None] = {}
        self._schema_version: Sequence[Row] | None = (
            None  #: the oldest version that the cached tables may have
        )
        connection.on_change.append(self.forget)

    def find_table(self, name: str) -> Table | None:
        if self._tables is not None or not self._known_tables:
            return self.tables().get(name)
        if name not in self._single_tables:  # the schema may have changed: read only what is needed
            if len(self._single_tables) >= MAX_SINGLE_READS:  # each scans all of sqlite_master
                return self.tables().get(name)
            rows = self._connection.fetch(f"{_ALL_TABLES} and name = :name", {"name": name})
            table = (self._known_tables.get(rows[0]) or self._build_table(rows[0], {})) if rows else None
            self._single_tables[name] = table if table and table.columns else None
        return self._single_tables[name]

    def adopt_tables(self, other: SQLiteCatalog) -> None:
        """Read only those tables whose definition differs from that in ``other``."""
        self._known_tables = other._known_tables

    def forget(self) -> None:
        super().forget()
        self._single_tables.clear()
        self._schema_version = None

    def forget_changed(self) -> None:
        """Read the tables again if the schema version has changed, which counts the changes of all connections."""
        version = self._connection.run("pragma schema_version")
        if version != self._schema_version:
            self.forget()
            self._schema_version = version

    def _read_tables(self) -> Mapping[str, Table]:
        rows = self._connection.fetch(_ALL_TABLES)
        columns_by_table = (
            self._read_all_columns() if len(rows) > len(self._known_tables) + MAX_SINGLE_READS else {}
        )
        # Scripts read the tables again after each change of the schema; a table with the same text is unchanged.
        tables_by_row = {
            row: self._known_tables.get(row) or self._build_table(row, columns_by_table) for row in rows
        }
        # the columns of a view depend on other tables
        self._known_tables = {row: table for row, table in tables_by_row.items() if not table.is_view}
        return {table.name: table for table in tables_by_row.values() if table.columns}

    def _build_table(self, row: Row, columns_by_table: Mapping[str, Sequence[Row]]) -> Table:
        name, kind = str(row[0]), row[1]
        return Table(
            name=name, columns=self._read_columns(name, columns_by_table.get(name)), is_view=kind == "view"
        )

    def _read_references(self) -> Mapping[str, Sequence[Reference]]:
        import json

        live, references = self.tables(), defaultdict[str, list[Reference]](list)
        spelling = {lower_ascii(name): name for name in live}
        rows = self._connection.fetch(_REFERENCES, {"tables": json.dumps(self.base_tables())})
        for (name, _), group in groupby(rows, key=lambda row: row[:2]):
            key = list(group)
            parent = live.get(spelling.get(lower_ascii(str(key[0][2])), ""))
            if not parent:  # as SQLite allows
                continue
            to = _resolve_spelling(parent, [str(row[4]) for row in key if row[4] is not None])
            if not to:  # a foreign key without columns refers to the primary key
                to = [str(row[0]) for row in self._connection.fetch(_KEY_COLUMNS, {"table": parent.name})]
            reference = Reference(
                table=str(name),
                columns=_resolve_spelling(live[str(name)], [str(row[3]) for row in key]),
                to=to,
                on_delete=cast("Literal['CASCADE']", key[0][5]),
                deferrable=True,
            )
            references[parent.name].append(reference)
        return references

    def _read_all_columns(self) -> Mapping[str, Sequence[Row]]:
        """Return the rows of ``table_xinfo`` by table or view; empty if one of them cannot be read."""
        columns_by_table = defaultdict[str, list[Row]](list)
        try:
            for name, *row in self._connection.fetch(_ALL_COLUMNS):
                columns_by_table[str(name)].append(tuple(row))
        except (QueryFailedError, ValueInvalidError):
            return {}
        return columns_by_table

    def _read_columns(self, table: str, known_rows: Sequence[Row] | None = None) -> dict[str, Column]:
        """Return the columns of a table, empty if it cannot be read, so that it is treated as missing.

        Unreadable are views over missing tables, virtual tables of extensions that only the app loads, and names that
        are not valid UTF-8.
        """
        try:
            rows = known_rows or self._connection.fetch(f"pragma table_xinfo({ident(table)})")
        except (QueryFailedError, ValueInvalidError):
            return {}
        has_single_key = sum(1 for row in rows if row[5]) == 1
        columns = {}
        for _position, name, declared, not_null, default, key, hidden in rows:
            declared_type = str(declared or "").upper()
            is_rowid = bool(key) and has_single_key and declared_type == "INTEGER"
            if hidden != 1:
                columns[str(name)] = Column(
                    name=str(name),
                    type=declared_type,
                    nullable=not (not_null or is_rowid),
                    required=bool(not_null) and default is None and not is_rowid and hidden == 0,
                    is_primary_key=bool(key),
                    is_generated=hidden in (2, 3),
                    has_time_default=hidden == 0
                    and default is not None
                    and bool(re.fullmatch(_CLOCK_DEFAULT, "".join(str(default).lower().split()))),
                )
        return columns


def _resolve_spelling(table: Table, columns: Sequence[str]) -> list[str]:
    """Return those of ``columns`` that the table has, in its spelling."""
    spelling = {name.lower(): name for name in table.columns}
    return [spelling[column.lower()] for column in columns if column.lower() in spelling]


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
