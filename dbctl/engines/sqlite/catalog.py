"""The live tables and views of a SQLite file."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, cast

from dbctl.engines.contract.database import Action, Column, Reference, Table
from dbctl.engines.sql.catalog import Catalog, Row, ident, lower_ascii
from dbctl.engines.sqlite.connection import SQLiteConnection
from dbctl.errors.connection import QueryFailedError
from dbctl.errors.usage import ValueInvalidError

#: Whether a full-text index has no rows of its own: it reads those of another table, or stores only words.
INDEX_WITHOUT_ROWS = "(l.type = 'virtual' and replace(m.sql, ' ', '') like '%content=%')"
#: The columns of each table and view, with their place in the primary key, and the version of the schema.
_TABLES = f"""select m.name, case when {INDEX_WITHOUT_ROWS} then 'index' else m.type end, l.type, l.wr, v.schema_version{{columns}}
from pragma_schema_version v cross join pragma_table_list l cross join sqlite_master m on m.name = l.name and m.type in ('table', 'view'){{join}}
where l.schema = 'main' and substr(m.name, 1, 7) <> 'sqlite_' order by m.rowid{{order}}"""
#: Whether the primary key of ``m`` has an index, and is not the rowid; only so does ``integer primary key desc`` differ from a rowid.
_HAS_KEY_INDEX = "exists (select 1 from pragma_index_list(m.name) where origin = 'pk')"
#: The statement of a table that may have ON CONFLICT REPLACE.
_REPLACING = "m.sql like '%conflict%replace%' then m.sql end"
_COLUMNS_OF_ALL = _TABLES.format(
    # only a column that may be the rowid: the pragma takes as long as those of all columns
    columns=', x.cid, x.name, x.type, x."notnull", x.dflt_value, x.pk, x.hidden,'
    f" case when x.pk = 1 and upper(x.type) = 'INTEGER' then {_HAS_KEY_INDEX} end, case when x.cid = 0 and {_REPLACING}",
    join=" left join pragma_table_xinfo(m.name) x",
    order=", x.cid",
)
_ONLY_TABLES = _TABLES.format(columns=f", {_HAS_KEY_INDEX}, case when {_REPLACING}", join="", order="")
#: Defaults that write the current UTC time with seconds, in lower case and without blanks.
_CLOCK_DEFAULT = (
    r"current_timestamp|datetime\('now'(,'subsec(ond)?')?\)|strftime\('%y-%m-%dt?%h:%m:%[sf]z?','now'\)"
    r"|\(*(cast\()?\(*(strftime\('%s','now'\)|unixepoch\(('now'(,'subsec(ond)?')?)?\))\)*(asint(eger)?\))?\)*(\*1000)?\)*"
)
#: The foreign keys of some tables, one row for each column.
_REFERENCES = """select m.name, f.id, f."table", f."from", f."to", f.on_delete, f.on_update
from sqlite_master m join pragma_foreign_key_list(m.name) f
where m.type = 'table' and m.name in (select value from json_each(:tables)) order by m.rowid, f.id, f.seq"""
#: The columns of unique indexes that compare texts otherwise than by their bytes: by the collation of the column, as foreign keys to it do.
_COLLATIONS = """select m.name, i.name, i.coll from sqlite_master m join pragma_index_list(m.name) l join pragma_index_xinfo(l.name) i
where m.type = 'table' and m.name in (select value from json_each(:tables)) and l."unique" and i.key and i.coll <> 'BINARY'"""


class SQLiteTable(Table, frozen=True, kw_only=True):
    """One live table or view of a SQLite file."""

    kind: str  #: "table", "shadow", "virtual" or "view"
    key: Sequence[str]  #: the columns of the primary key in the order of its declaration
    rowid: str  #: the column that is the rowid; empty if none is
    has_rowid: bool  #: whether each row has one, in a column or not
    #: what follows INSERT and UPDATE so that a key which exists is refused; otherwise ON CONFLICT REPLACE of a constraint would delete
    #: the other row, with those that foreign keys delete. It also applies to the statements of triggers, whose own clauses it overrides
    resolution_clause: str


class SQLiteCatalog(Catalog):
    """The tables and views, read by pragmas.

    sqlite-utils is not used here: reading commands must not wait for its import, and it reports neither generated columns
    nor names that are not valid UTF-8.
    """

    connection: SQLiteConnection
    _tables: Mapping[str, SQLiteTable] | None
    _schema_version: int | None = None  #: the oldest version that the cached tables may have
    #: of columns to which foreign keys refer, by table and column, once the foreign keys were read
    key_collations: Mapping[tuple[str, str], str] = {}

    if TYPE_CHECKING:  # the tables of the base class are these

        def tables(self) -> Mapping[str, SQLiteTable]: ...
        def require_table(self, table: str) -> SQLiteTable: ...

    def forget(self) -> None:
        super().forget()
        self._schema_version, self.key_collations = None, {}

    def forget_changed(self) -> None:
        """Read the tables again if the schema version has changed, which counts the changes of all connections."""
        if self.connection.run("pragma schema_version") != [(self._schema_version,)]:
            self.forget()

    def adopt(self, earlier: SQLiteCatalog, schema_version: int) -> None:
        """Keep the tables that another connection to the same file has read, if they are those of this version."""
        if earlier._schema_version == schema_version:
            self._tables, self._references = earlier._tables, earlier._references
            self.key_collations = earlier.key_collations
            self._schema_version = schema_version

    def _read_tables(self) -> Mapping[str, SQLiteTable]:
        try:
            rows = self.connection.fetch(_COLUMNS_OF_ALL)
        except (QueryFailedError, ValueInvalidError):
            # One of them cannot be read: a view over missing tables, or a virtual table of an extension that only the
            # app loads. It is treated as missing.
            rows = [
                (*row, *column, has_key_index, sql)
                for *row, has_key_index, sql in self.connection.fetch(_ONLY_TABLES)
                for column in self._read_columns(str(row[0]))
            ]
        self._schema_version = int(str(rows[0][4])) if rows else None
        groups = groupby(rows, key=itemgetter(slice(4)))
        tables = [_build_table(row, [column[5:] for column in columns]) for row, columns in groups]
        return {table.name: table for table in tables if table.columns}

    def _read_columns(self, table: str) -> Sequence[Row]:
        """Return the rows of ``table_xinfo``; empty if the table cannot be read."""
        try:
            return self.connection.fetch(f"pragma table_xinfo({ident(table)})")
        except (QueryFailedError, ValueInvalidError):
            return ()

    def _read_references(self) -> Mapping[str, Sequence[Reference]]:
        import json

        live, references = self.tables(), defaultdict[str, list[Reference]](list)
        spelling = {lower_ascii(name): name for name in live}
        rows = self.connection.fetch(_REFERENCES, {"tables": json.dumps(self.base_tables())})
        for (name, _), group in groupby(rows, key=lambda row: row[:2]):
            key = list(group)
            parent = live.get(spelling.get(lower_ascii(str(key[0][2])), ""))
            if not parent:  # as SQLite allows
                continue
            to = _resolve_spelling(parent, [str(row[4]) for row in key if row[4] is not None])
            if not to:  # a foreign key without columns refers to the primary key
                to = list(parent.key)
            reference = Reference(
                table=str(name),
                columns=_resolve_spelling(live[str(name)], [str(row[3]) for row in key]),
                to=to,
                on_delete=cast("Action", key[0][5]),
                on_update=cast("Action", key[0][6]),
                deferrable=True,
            )
            references[parent.name].append(reference)
        named = [name for name in references if set(live[name].columns) - {live[name].rowid}]
        self.key_collations = {
            (str(table), str(column)): ident(str(collation))
            for table, column, collation in self.connection.fetch(_COLLATIONS, {"tables": json.dumps(named)})
        }
        return references


def _build_table(row: Row, rows: Sequence[Row]) -> SQLiteTable:
    name, entry, kind, is_without_rowid = row
    key = sorted((int(str(place)), str(column)) for _, column, *_, place, _, _, _ in rows if place)
    rowid, resolution_clause, columns = "", "", {}
    for _position, column, declared, not_null, default, place, hidden, has_key_index, sql in rows:
        if sql is not None:
            from dbctl.engines.sqlite.lint import LEXER

            words = [token.text.lower() for token in LEXER.read_significant(str(sql))]
            resolution_clause = " or abort" if ("conflict", "replace") in pairwise(words) else ""
        declared_type = str(declared or "").upper()
        is_only_key = place == len(key) == 1
        is_rowid = is_only_key and declared_type == "INTEGER" and not (is_without_rowid or has_key_index)
        if is_rowid and kind == "table":
            rowid = str(column)
        if column is not None and hidden != 1:
            columns[str(column)] = Column(
                name=str(column),
                type=declared_type,
                nullable=not (not_null or is_rowid),
                required=bool(not_null or place) and default is None and not is_rowid and hidden == 0,
                is_primary_key=bool(place),
                is_generated=hidden in (2, 3),
                has_time_default=hidden == 0
                and default is not None
                and bool(re.fullmatch(_CLOCK_DEFAULT, "".join(str(default).lower().split()))),
            )
    return SQLiteTable(
        name=str(name),
        columns=columns,
        is_view=entry == "view",
        is_internal=kind == "shadow" or entry == "index",
        kind=str(kind),
        key=[column for _, column in key],
        rowid=rowid,
        has_rowid=kind == "table" and not is_without_rowid,
        resolution_clause=resolution_clause,
    )


def _resolve_spelling(table: Table, columns: Sequence[str]) -> list[str]:
    spelling = {name.lower(): name for name in table.columns}
    return [spelling[column.lower()] for column in columns if column.lower() in spelling]


VIRTUAL = r"(?i)create\s+virtual\b"
