"""The tables of an external index, and the statements that fill them from a table of the database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from dbctl.engines.sql.catalog import Statement
from dbctl.engines.sqlite.dialect import find_rowid_name
from dbctl.extensions.external_index.contract import ExternalIndexSpec

if TYPE_CHECKING:
    from dbctl.engines.sqlite.database import SQLiteReader

#: Schema name of the attached file, and its tables: metadata, one position per row, the texts.
SCHEMA_NAME = "dbctl_external_index"
META, PLACES, TEXTS = (f"{SCHEMA_NAME}.{name}" for name in ("meta", "places", "texts"))
#: Version of the content of the file.
FORMAT = 2
#: Whether LIKE matches BLOBs, and folds non-ASCII letters, as does lower(): depends on the build of SQLite.
_BUILD_OPTIONS = "select cast(x'61' as blob) like 'a', 'é' like 'É', lower('É') = 'É'"


class ExternalIndexDefinition:
    """The external index of one table, for the build of SQLite that runs."""

    def __init__(self, db: SQLiteReader, spec: ExternalIndexSpec) -> None:
        self.spec = spec
        self._connection, self._catalog, self._builder = db.connection, db.catalog, db.builder
        self._is_copy = db.taken_at is not None

    def unsupported_reason(self) -> str:
        """Return why the table cannot have an external index; empty if it can."""
        if self._is_copy:
            return "the database is read from a copy of another machine"
        query = "select 1 from pragma_table_list where schema = 'main' and type = 'table' and not wr and name = :name"
        if not self._connection.fetch(query, {"name": self.spec.table}) or not self.rowid_name():
            return f"{self.spec.table} has no rowids"
        ((_, folds_unicode, lower_keeps_unicode),) = self._connection.fetch(_BUILD_OPTIONS)
        return (
            ""
            if lower_keeps_unicode and not folds_unicode
            else "this build of SQLite folds non-ASCII letters"
        )

    def rowid_name(self) -> str:
        """Return a name of the rowid; empty if columns have all of its names."""
        return find_rowid_name(self._catalog.require_table(self.spec.table).columns)

    def table_definitions(self) -> dict[str, str]:
        """Return the tables of the file, each with the statement that SQLite stores for it."""
        condition_columns = "".join(
            f", k{position} integer" for position in range(len(self.spec.stored_conditions))
        )
        texts = ", ".join(f"c{position}" for position in range(len(self.spec.columns)))
        options = "content='', columnsize=0, tokenize='trigram case_sensitive 1'"
        return {
            "meta": "CREATE TABLE meta (key text, value)",
            "places": f"CREATE TABLE places (place integer primary key, number integer not null{condition_columns})",
            "texts": f"CREATE VIRTUAL TABLE texts using fts5({texts}, {options})",
        }

    def fill_statements(self) -> list[tuple[str, Mapping[str, object]]]:
        statement = Statement(self.spec.table)
        table, rowid = self._catalog.quote_table(self.spec.table), self.rowid_name()
        tests = [
            f"(({self._builder.condition(statement, self.spec.table, condition, 't0')}) is true)"
            for condition in self.spec.stored_conditions
        ]
        names = ", ".join(["number", *(f"k{position}" for position in range(len(tests)))])
        order = ", ".join(
            [*self._builder.order_terms(statement, self.spec.table, self.spec.order), f"t0.{rowid}"]
        )
        rows = f"select {', '.join([f't0.{rowid}', *tests])} from {table} t0 order by {order}"
        names_of_texts = ", ".join(f"c{position}" for position in range(len(self.spec.columns)))
        values = ", ".join(self.text_expressions())
        source = f"{PLACES} p cross join {table} t0 on t0.{rowid} = p.number"
        texts = f"select p.place, {values} from {source} order by p.place"
        # sqlite-utils writes only the main database, and these tables are in an attached one
        return [
            (f"insert into {PLACES} ({names}) {rows}", statement.parameters),
            (f"insert into {TEXTS} (rowid, {names_of_texts}) {texts}", {}),
            (f"insert into {TEXTS} (texts) values ('optimize')", {}),
        ]

    def text_expressions(self) -> Iterator[str]:
        """Yield SQL for the text of each column of ``t0`` that LIKE compares, up to a NUL, in lower case."""
        ((blobs, _, _),) = self._connection.fetch(_BUILD_OPTIONS)
        by_bytes = self._connection.fetch("pragma encoding") == [("UTF-8",)]  # text may contain invalid UTF-8
        for column in self.spec.columns:
            name = self._catalog.quote_column(self.spec.table, column, "t0")
            text = f"cast({name} as text)"
            if by_bytes:
                raw = f"cast({name if blobs else text} as blob)"
                cut = f"cast(substr({raw}, 1, instr({raw}, x'00') - 1) as text)"
            else:
                cut = f"substr({text}, 1, instr({text}, char(0)) - 1)"
            text_sql = f"lower(case when instr({text}, char(0)) then {cut} else {text} end)"
            yield text_sql if blobs else f"case when typeof({name}) <> 'blob' then {text_sql} end"

    def describe(self) -> str:
        """Return a text that differs between definitions."""
        return repr([FORMAT, self.table_definitions(), self.fill_statements()])
