"""The SQL dialect of SQLite, and its table definitions."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, TypeVar, cast

from dbctl.engines.contract import Column, Explanation, Reference, ShiftedTime, Table, TimeForm, Where
from dbctl.engines.sql import PlanReader, Row, Statement, escape_like, ident, is_storable
from dbctl.errors import QueryFailedError, ValueInvalidError

T = TypeVar("T")

_ALL_TABLES = """select name, type, sql from sqlite_master
where type in ('table', 'view') and substr(name, 1, 7) <> 'sqlite_'"""
_ALL_COLUMNS = """select m.name, x.cid, x.name, x.type, x."notnull", x.dflt_value, x.pk, x.hidden
from sqlite_master m, pragma_table_xinfo(m.name) x where m.type in ('table', 'view') order by m.rowid, x.cid"""
#: Whether a table is a shadow table, or a full-text index over the text of another table.
_INDEX_TABLE = """select 1 from pragma_table_list l join sqlite_master m on m.name = l.name
where l.schema = 'main' and l.name = :table
and (l.type = 'shadow' or (l.type = 'virtual' and replace(m.sql, ' ', '') like '%content=%'))"""
#: The foreign keys of some tables that refer to a table, one row for each column.
_REFERENCES = """select m.name, f.id, f."from", f."to", f.on_delete
from sqlite_master m join pragma_foreign_key_list(m.name) f
where m.type = 'table' and m.name in (select value from json_each(:tables)) and f."table" = :table collate nocase
order by m.rowid, f.id, f.seq"""
#: The columns of a primary key in the order of its declaration.
_KEY_COLUMNS = "select name from pragma_table_info(:table) where pk order by pk"
#: Up to this number of unknown tables, each is read with a separate query.
MAX_SINGLE_READS = 3

#: SQL that writes milliseconds since 1970 in each time form; integers, so that rounding loses none.
TIME_FORMATS: Mapping[TimeForm, str] = {
    "iso-ms": "strftime('%Y-%m-%dT%H:%M:%S', ({0}) / 1000, 'unixepoch') || printf('.%03dZ', ({0}) % 1000)",
    "sqlite-time": "strftime('%Y-%m-%d %H:%M:%S', ({0}) / 1000, 'unixepoch')",
    "epoch-ms": "({0})",
    "epoch-s": "({0}) / 1000",
}


class SQLiteDialect(PlanReader):
    """The SQL of SQLite and its table definitions; subclasses provide the connection."""

    native_types: frozenset[str] = frozenset()
    _tables: dict[str, Table] | None = None
    _known_tables: Mapping[Row, Table] = {}  #: by their row of ``sqlite_master``

    @abstractmethod
    def _retry_if_changed(self, read: Callable[[], T]) -> T:
        """Return the result of ``read`` from one state of the file; read again if the file changed."""

    def tables(self) -> Mapping[str, Table]:
        if self._tables is None:
            rows = self._fetch(_ALL_TABLES, {})
            columns_by_table = (
                self._read_all_columns() if len(rows) > len(self._known_tables) + MAX_SINGLE_READS else {}
            )
            # Scripts read the tables again after each change of the schema; a table with the same text is unchanged.
            tables_by_row = {
                row: self._known_tables.get(row) or self._build_table(row, columns_by_table) for row in rows
            }
            self._tables = {table.name: table for table in tables_by_row.values() if table.columns}
            # the columns of a view depend on other tables
            self._known_tables = {row: table for row, table in tables_by_row.items() if not table.is_view}
        return self._tables

    def _build_table(self, row: Row, columns_by_table: Mapping[str, Sequence[Row]]) -> Table:
        name, kind = str(row[0]), row[1]
        return Table(
            name=name, columns=self._read_columns(name, columns_by_table.get(name)), is_view=kind == "view"
        )

    def references(self, table: str) -> Sequence[Reference]:
        # By pragmas, because reading commands also need the references, and must not wait for the import of sqlite-utils.
        import json

        definition, live = self._require_table(table), self.tables()
        names = json.dumps([name for name, entry in live.items() if not entry.is_view])
        key_by_id = defaultdict[tuple[str, object], list[Row]](list)
        for name, *key in self._fetch(_REFERENCES, {"tables": names, "table": table}):
            key_by_id[str(name), key[0]].append(tuple(key))
        return [
            Reference(
                table=name,
                columns=_resolve_spelling(live[name], [str(column) for _, column, *_ in key]),
                # a foreign key without columns refers to the primary key
                to=_resolve_spelling(
                    definition, [str(column) for _, _, column, _ in key if column is not None]
                )
                or [str(column) for (column,) in self._fetch(_KEY_COLUMNS, {"table": table})],
                on_delete=cast("Literal['CASCADE']", key[0][3]),
            )
            for (name, _), key in key_by_id.items()
        ]

    def count(self, table: str, where: Sequence[Where] = ()) -> int:
        try:
            return super().count(table, where)
        except QueryFailedError:
            # A full-text index whose content columns are missing can still count its entries.
            entries = f"{table}_docsize"
            if where or entries not in self.tables():
                raise
            return super().count(entries)

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        return super().query(*self._expand_sets(sql, parameters))

    def _explain_statement(
        self, sql: str, parameters: Mapping[str, object], aliases: Mapping[str, str]
    ) -> Explanation:
        plan, scanned = self._read_plan(sql, parameters)
        return Explanation(
            sql=sql,
            parameters=tuple(parameters.values()),
            plan=plan,
            full_scans=[aliases[name] for name in scanned if name in aliases],
        )

    def explain_query(self, sql: str, parameters: Mapping[str, object] = {}) -> Explanation:
        self._refuse_unknown_names(sql)
        expanded_sql, expanded_parameters = self._expand_sets(sql, parameters)
        plan, scanned = self._read_plan(expanded_sql, expanded_parameters)
        return Explanation(
            sql=sql,
            parameters=tuple(parameters.values()),
            plan=plan,
            full_scans=list(dict.fromkeys(name for name in scanned if name in self.tables())),
        )

    def _refuse_unknown_names(self, sql: str) -> None:
        """Refuse unknown names in double quotes, because SQLite would read them as text without an error."""
        from dbctl.engines.sqlite.sql import find_unknown_names

        names = {column.lower() for table in self.tables().values() for column in table.columns}
        unknown_names = find_unknown_names(sql, names | {name.lower() for name in self.tables()})
        if unknown_names:
            reason = f"no column {unknown_names[0]}; SQLite reads an unknown name in double quotes as text"
            raise QueryFailedError(target=self.target, reason=reason)

    def _read_plan(self, sql: str, parameters: Mapping[str, object]) -> tuple[list[str], list[str]]:
        """Return the steps of SQLite's plan, and the tables or aliases that it reads completely."""
        depth: dict[object, int] = {}
        plan, scanned = [], []
        for step, parent, _unused, detail in self._fetch(f"explain query plan {sql}", parameters):
            depth[step] = depth.get(parent, -1) + 1
            plan.append("  " * depth[step] + str(detail))
            words = str(detail).split()
            if words[:1] == ["SCAN"] and "INDEX" not in words:
                scanned.append(words[1])
        return plan, scanned

    def _to_milliseconds(self, value: str, _column: Column) -> str:
        # Numbers below 10^11 are seconds: as milliseconds they would all be before March 1973. Text is a time only if
        # it begins with a date (SQLite would read "2004" as a Julian day) or consists of enough digits for a number.
        number = (
            f"case when {value} between -99999999999 and 99999999999 then {value} * 1000 else {value} end"
        )
        digits = f"case when length({value}) < 12 then {value} * 1000 else {value} + 0 end"
        return (
            f"case when typeof({value}) in ('integer', 'real') then {number}"
            f" when {value} glob '[0-9][0-9][0-9][0-9]-[0-9][0-9]-*'"
            f" then cast(round((julianday({value}) - 2440587.5) * 86400000) as integer)"
            f" when length({value}) between 9 and 14 and {value} not glob '*[^0-9]*' then {digits} end"
        )

    def _roughly_before(self, value: str, _column: Column, timestamp: datetime, statement: Statement) -> str:
        # The forms of ``_to_milliseconds``: numbers of seconds, numbers of milliseconds, and text that begins with a
        # date, regardless of its zone. Numeric text for 2001 to 2033 sorts before the dates of this century.
        limit = timestamp.timestamp() + 1
        seconds, milliseconds = statement.bind(limit), statement.bind(limit * 1000)
        day = statement.bind((timestamp + timedelta(days=2)).date().isoformat())
        return (
            f"({value} < {seconds} or ({value} >= 100000000000 and {value} < {milliseconds})"
            f" or ({value} >= '' and {value} < {day}))"
        )

    def _shift_time(self, value: str, column: Column, shift: ShiftedTime) -> str:
        """Return SQL for a time that is moved by an interval."""
        return TIME_FORMATS[shift.form].format(
            f"{self._to_milliseconds(value, column)} + {shift.offset // timedelta(milliseconds=1)}"
        )

    def _expand_sets(self, sql: str, parameters: Mapping[str, object]) -> tuple[str, dict[str, object]]:
        """Return a statement of a profile and its parameters; lists become JSON arrays."""
        import json

        expanded = dict(parameters)
        for name, value in parameters.items():
            if isinstance(value, list):
                if not all(map(_is_json_safe, value)):
                    raise ValueInvalidError(
                        name=f"parameter :{name}", value="given", reason="it cannot be written as JSON"
                    )
                sql = re.sub(rf":{name}\b", rf"(select value from json_each(:{name}))", sql)  # noqa: S608 - the name is the profile's
                expanded[name] = json.dumps(value)
        return sql, expanded

    def _fold_case(self, value: str, _column: Column) -> str:
        return f"{value} collate nocase"

    def _text_test(self, value: str, _column: Column, op: str, statement: Statement, text: str) -> str:
        if "\0" in text:  # LIKE and NOCASE stop at a NUL
            folded = f"lower({statement.bind(text)})"
            if op == "same":
                return f"lower({value}) = {folded}"
            return f"instr(lower({value}), {folded}) {'= 1' if op == 'starts' else '> 0'}"
        if op == "same":
            if is_storable(text):
                operand = statement.bind(text)
            else:  # the text has bytes that are not UTF-8, written as surrogates
                operand = f"cast({statement.bind(text.encode('utf-8', 'surrogateescape'))} as text)"
            # on the left: SQLite turns several of these joined by OR into one IN, and drops a collation on the right
            return f"{value} collate nocase = {operand}"
        pattern = escape_like(text)
        escape = " escape '!'" if pattern != text else ""  # LIKE takes a third longer with ESCAPE
        return f"{value} like {statement.bind(f'{pattern}%' if op == 'starts' else f'%{pattern}%')}{escape}"

    def _is_text(self, column: Column) -> bool:
        return not any(word in column.type for word in ("INT", "REAL", "FLOA", "DOUB", "BLOB", "BOOL"))

    def _text_position(self, value: str, _column: Column, statement: Statement, text: str) -> str:
        return f"instr(lower({value}), lower({statement.bind(text)}))"

    def _contains(self, value: str, column: Column, statement: Statement, text: str) -> str:
        # LIKE would compare BLOBs as text.
        return f"(typeof({value}) = 'text' and {super()._contains(value, column, statement, text)})"

    def text_columns(self, table: str) -> Sequence[str]:
        return [] if self._fetch(_INDEX_TABLE, {"table": table}) else super().text_columns(table)

    def _is_among(self, value: str, _column: Column, statement: Statement, values: Sequence[object]) -> str:
        import json

        plain = [item for item in values if _is_json_safe(item)]
        listed = statement.bind(json.dumps(plain))
        test = f"{value} in (select value from json_each({listed}))"  # noqa: S608 - the column is checked and quoted
        placeholders = [statement.bind(item) for item in values if not _is_json_safe(item)]
        return f"({test} or {value} in ({', '.join(placeholders)}))" if placeholders else test

    def _read_all_columns(self) -> Mapping[str, Sequence[Row]]:
        """Return the rows of ``table_xinfo`` by table or view; empty if one of them cannot be read."""
        columns_by_table = defaultdict[str, list[Row]](list)
        try:
            for name, *row in self._fetch(_ALL_COLUMNS, {}):
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
            rows = known_rows or self._fetch(f"pragma table_xinfo({ident(table)})", {})
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
                )
        return columns


def _is_json_safe(value: object) -> bool:
    """Whether SQLite reads ``value`` unchanged from JSON: its JSON text ends at a NUL and has no NaN."""
    if isinstance(value, str):
        return is_storable(value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or (isinstance(value, int) and -(1 << 63) <= value < 1 << 63)


def _resolve_spelling(table: Table, columns: Sequence[str]) -> list[str]:
    """Return those of ``columns`` that the table has, in its spelling."""
    spelling = {name.lower(): name for name in table.columns}
    return [spelling[column.lower()] for column in columns if column.lower() in spelling]
