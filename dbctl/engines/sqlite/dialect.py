"""How SQLite says what the contract asks for, and how it tells its schema."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, TypeVar, cast

from dbctl.engines.contract import Column, Explanation, Later, Reference, Table, TimeForm, Where
from dbctl.engines.sql import PlanReader, Row, Statement, ident, is_storable, like_literal
from dbctl.errors import QueryFailedError, ValueInvalidError

if TYPE_CHECKING:
    from sqlite_utils import Database

T = TypeVar("T")

_ALL_TABLES = """select name, type, sql from sqlite_master
where type in ('table', 'view') and substr(name, 1, 7) <> 'sqlite_'"""
_ALL_COLUMNS = """select m.name, x.cid, x.name, x.type, x."notnull", x.dflt_value, x.pk, x.hidden
from sqlite_master m, pragma_table_xinfo(m.name) x where m.type in ('table', 'view') order by m.rowid, x.cid"""
#: Whether a table belongs to the inside of a virtual one, or is an index of words over the text of another.
_HELD_ELSEWHERE = """select 1 from pragma_table_list l join sqlite_master m on m.name = l.name
where l.schema = 'main' and l.name = :table
and (l.type = 'shadow' or (l.type = 'virtual' and replace(m.sql, ' ', '') like '%content=%'))"""
#: Tables that are new to a schema, up to which each is asked about by itself.
FEW = 3

#: Milliseconds since 1970 as each form of a time writes them; whole numbers, so that no rounding loses one.
FORMS: Mapping[TimeForm, str] = {
    "iso-ms": "strftime('%Y-%m-%dT%H:%M:%S', ({0}) / 1000, 'unixepoch') || printf('.%03dZ', ({0}) % 1000)",
    "sqlite-time": "strftime('%Y-%m-%d %H:%M:%S', ({0}) / 1000, 'unixepoch')",
    "epoch-ms": "({0})",
    "epoch-s": "({0}) / 1000",
}


class SQLiteDialect(PlanReader):
    """The reading half of the contract, for whatever holds the connection."""

    natives: frozenset[str] = frozenset()
    _tables: dict[str, Table] | None = None
    _seen: Mapping[Row, Table] = {}  #: those that were found before, by what ``sqlite_master`` tells of them

    @property
    @abstractmethod
    def utils(self) -> Database:
        """The open connection as sqlite-utils sees it."""

    @abstractmethod
    def _steadily(self, read: Callable[[], T]) -> T:
        """Return what ``read`` returns from one state of the file, reading again where it changed meanwhile."""

    def tables(self) -> Mapping[str, Table]:
        if self._tables is None:
            rows = self._fetch(_ALL_TABLES, {})
            told = self._all_columns() if len(rows) > len(self._seen) + FEW else {}
            # Scripts look again after what changed the schema: a table that is made by the same text is the same.
            found = {row: self._seen.get(row) or self._table_of(row, told) for row in rows}
            self._tables = {table.name: table for table in found.values() if table.columns}
            # the columns of a view are those of others
            self._seen = {row: table for row, table in found.items() if not table.view}
        return self._tables

    def _table_of(self, row: Row, told: Mapping[str, Sequence[Row]]) -> Table:
        name, kind = str(row[0]), row[1]
        return Table(name=name, columns=self._columns(name, told.get(name)), view=kind == "view")

    def references(self, table: str) -> Sequence[Reference]:
        live = self.tables()

        def read() -> list[Reference]:
            return [
                Reference(
                    table=name,
                    columns=_spelt(live[name], key.columns),
                    to=_spelt(self._checked(table), key.other_columns),
                    on_delete=cast("Literal['CASCADE']", key.on_delete),
                )
                for name in live
                if not live[name].view
                for key in self.utils.table(name).foreign_keys
                if key.other_table.lower() == table.lower()
            ]

        return self._steadily(read)

    def count(self, table: str, where: Sequence[Where] = ()) -> int:
        try:
            return super().count(table, where)
        except QueryFailedError:
            # An index of words that reads its text from columns which are not there tells its entries all the same.
            entries = f"{table}_docsize"
            if where or entries not in self.tables():
                raise
            return super().count(entries)

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        return super().query(*self._with_sets(sql, parameters))

    def _explained(
        self, sql: str, parameters: Mapping[str, object], aliases: Mapping[str, str]
    ) -> Explanation:
        plan, scanned = self._plan(sql, parameters)
        return Explanation(
            sql=sql,
            parameters=tuple(parameters.values()),
            plan=plan,
            full_scans=[aliases[name] for name in scanned if name in aliases],
        )

    def explain_query(self, sql: str, parameters: Mapping[str, object] = {}) -> Explanation:
        self._refuse_strange_names(sql)
        asked, given = self._with_sets(sql, parameters)
        plan, scanned = self._plan(asked, given)
        return Explanation(
            sql=sql,
            parameters=tuple(parameters.values()),
            plan=plan,
            full_scans=list(dict.fromkeys(name for name in scanned if name in self.tables())),
        )

    def _refuse_strange_names(self, sql: str) -> None:
        """Refuse a name in double quotes that is none: SQLite would take it for a text, and say nothing."""
        from dbctl.engines.sqlite.sql import strange_names

        names = {column.lower() for table in self.tables().values() for column in table.columns}
        strange = strange_names(sql, names | {name.lower() for name in self.tables()})
        if strange:
            reason = f"there is no column {strange[0]}; in double quotes SQLite would read it as a text"
            raise QueryFailedError(target=self.target, reason=reason)

    def _plan(self, sql: str, parameters: Mapping[str, object]) -> tuple[list[str], list[str]]:
        """Return the steps of SQLite's plan, and what is read whole, by table or alias as the statement calls it."""
        depth: dict[object, int] = {}
        plan, scanned = [], []
        for step, parent, _unused, detail in self._fetch(f"explain query plan {sql}", parameters):
            depth[step] = depth.get(parent, -1) + 1
            plan.append("  " * depth[step] + str(detail))
            words = str(detail).split()
            if words[:1] == ["SCAN"] and "INDEX" not in words:
                scanned.append(words[1])
        return plan, scanned

    def _milliseconds(self, value: str, _column: Column) -> str:
        # Numbers below 10^11 are seconds: as milliseconds they would all lie before March 1973. Of text only what
        # begins like a date is one (SQLite would read "2004" as a Julian day), and long rows of digits are numbers.
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

    def _nearly_before(self, value: str, _column: Column, moment: datetime, statement: Statement) -> str:
        # By the forms of ``_milliseconds``: numbers that are seconds, and milliseconds; then text that begins like a
        # date, its zone aside. Text that is a number sorts before the dates of this century, if it means 2001 to 2033.
        behind = moment.timestamp() + 1
        seconds, milliseconds = statement.bind(behind), statement.bind(behind * 1000)
        day = statement.bind((moment + timedelta(days=2)).date().isoformat())
        return (
            f"({value} < {seconds} or ({value} >= 100000000000 and {value} < {milliseconds})"
            f" or ({value} >= '' and {value} < {day}))"
        )

    def _later(self, value: str, column: Column, later: Later) -> str:
        """Return SQL for a time that is moved on."""
        return FORMS[later.form].format(
            f"{self._milliseconds(value, column)} + {later.by // timedelta(milliseconds=1)}"
        )

    def _with_sets(self, sql: str, parameters: Mapping[str, object]) -> tuple[str, dict[str, object]]:
        """Return a profile's statement and its parameters, those that hold a set as SQLite reads one."""
        import json

        given = dict(parameters)
        for name, value in parameters.items():
            if isinstance(value, list):
                if not all(map(_is_plain, value)):
                    raise ValueInvalidError(
                        what=f"parameter :{name}", value="given", reason="JSON cannot carry it"
                    )
                sql = re.sub(rf":{name}\b", rf"(select value from json_each(:{name}))", sql)  # noqa: S608 - a name of ours
                given[name] = json.dumps(value)
        return sql, given

    def _folded(self, value: str, _column: Column) -> str:
        return f"{value} collate nocase"

    def _text_test(self, value: str, _column: Column, op: str, statement: Statement, text: str) -> str:
        if "\0" in text:  # where LIKE and NOCASE stop reading
            folded = f"lower({statement.bind(text)})"
            if op == "same":
                return f"lower({value}) = {folded}"
            return f"instr(lower({value}), {folded}) {'= 1' if op == 'starts' else '> 0'}"
        if op == "same":
            if is_storable(text):
                wanted = statement.bind(text)
            else:  # it came from bytes that are no UTF-8, and goes back as such
                wanted = f"cast({statement.bind(text.encode('utf-8', 'surrogateescape'))} as text)"
            # on the left: SQLite makes one IN of several of these joined by OR, and forgets a collation on the right
            return f"{value} collate nocase = {wanted}"
        pattern = like_literal(text)
        escape = " escape '!'" if pattern != text else ""  # LIKE takes a third longer where it looks for one
        return f"{value} like {statement.bind(f'{pattern}%' if op == 'starts' else f'%{pattern}%')}{escape}"

    def _is_text(self, column: Column) -> bool:
        return not any(word in column.type for word in ("INT", "REAL", "FLOA", "DOUB", "BLOB", "BOOL"))

    def _found_at(self, value: str, _column: Column, statement: Statement, text: str) -> str:
        return f"instr(lower({value}), lower({statement.bind(text)}))"

    def _contains(self, value: str, column: Column, statement: Statement, text: str) -> str:
        # LIKE would take bytes for text.
        return f"(typeof({value}) = 'text' and {super()._contains(value, column, statement, text)})"

    def texts(self, table: str) -> Sequence[str]:
        return [] if self._fetch(_HELD_ELSEWHERE, {"table": table}) else super().texts(table)

    def _among(self, value: str, _column: Column, statement: Statement, among: Sequence[object]) -> str:
        import json

        plain = [one for one in among if _is_plain(one)]
        listed = statement.bind(json.dumps(plain))
        test = f"{value} in (select value from json_each({listed}))"  # noqa: S608 - the column is checked and quoted
        rest = [statement.bind(one) for one in among if not _is_plain(one)]
        return f"({test} or {value} in ({', '.join(rest)}))" if rest else test

    def _all_columns(self) -> Mapping[str, Sequence[Row]]:
        """Return what ``table_xinfo`` tells of every table and view; nothing where one of them cannot be read here."""
        told = defaultdict[str, list[Row]](list)
        try:
            for name, *row in self._fetch(_ALL_COLUMNS, {}):
                told[str(name)].append(tuple(row))
        except (QueryFailedError, ValueInvalidError):
            return {}
        return told

    def _columns(self, table: str, told: Sequence[Row] | None = None) -> dict[str, Column]:
        """Return the columns of a table; none of what nobody can read here, so that it is as if it were not there.

        Such are a view over a table that is gone, a virtual table of an extension that only the app loads, and a
        name that is not valid UTF-8.
        """
        try:
            rows = told or self._fetch(f"pragma table_xinfo({ident(table)})", {})
        except (QueryFailedError, ValueInvalidError):
            return {}
        alone = sum(1 for row in rows if row[5]) == 1
        columns = {}
        for _position, name, declared, not_null, default, key, hidden in rows:
            kind = str(declared or "").upper()
            rowid = bool(key) and alone and kind == "INTEGER"
            if hidden != 1:
                columns[str(name)] = Column(
                    name=str(name),
                    type=kind,
                    nullable=not (not_null or rowid),
                    required=bool(not_null) and default is None and not rowid and hidden == 0,
                    key=bool(key),
                    generated=hidden in (2, 3),
                )
        return columns


def _is_plain(value: object) -> bool:
    """Whether JSON carries ``value`` to SQLite as it is: SQLite cuts its text at a NUL and knows no NaN."""
    if isinstance(value, str):
        return is_storable(value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or (isinstance(value, int) and -(1 << 63) <= value < 1 << 63)


def _spelt(table: Table, columns: Sequence[str]) -> list[str]:
    """Return ``columns`` as their own table spells them; its key where a foreign key names none that it has."""
    own = {name.lower(): name for name in table.columns}
    found = [own[column.lower()] for column in columns if column.lower() in own]
    return found or [column.name for column in table.columns.values() if column.key]
