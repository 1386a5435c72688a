"""Times in SQLite columns, which have no time type: defaults that write the current time, and the stored forms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dbctl.engines.contract.database import Table, TimeFormCount
from dbctl.engines.sql.catalog import ident

if TYPE_CHECKING:
    from dbctl.engines.sqlite.database import SQLiteDatabase, SQLiteWriter

#: Number of the newest rows, whose forms are those that the app currently writes.
NEWEST_ROWS = 50

_DAY = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
#: The form of a value, NULL if it is not a time or is zero; the same forms as in ``_to_milliseconds``, without plain dates.
_FORM = f"""case
when typeof({{0}}) in ('integer', 'real') then
    case when {{0}} = 0 then null when {{0}} between -99999999999 and 99999999999 then 'epoch-s' else 'epoch-ms' end
when {{0}} glob '{_DAY}T*Z' then 'iso-ms'
when {{0}} glob '{_DAY}T*' then 'iso-without-z'
when {{0}} glob '{_DAY} *' then 'sqlite-time'
when length({{0}}) between 9 and 14 and {{0}} not glob '*[^0-9]*' then
    case when length({{0}}) < 12 then 'epoch-s' else 'epoch-ms' end
end"""


class SQLiteTimes:
    """The part ``TimeForms``."""

    def __init__(self, db: SQLiteDatabase) -> None:
        self._connection, self._catalog = db.connection, db.catalog
        #: by table, which the catalog replaces when its definition has changed: the order of its newest rows, and their forms
        self._known: dict[str, tuple[Table, str, dict[str, Sequence[str]]]] = {}

    def count_time_forms(self, table: str, column: str) -> Sequence[TimeFormCount]:
        definition = self._catalog.require_table(table)
        key = [
            name for name, column_definition in definition.columns.items() if column_definition.is_primary_key
        ]
        value = self._catalog.quote_column(table, column, "")
        key_columns = "".join(f", {ident(name)}" for name in key)
        # With min(), SQLite takes the other columns from the row with the smallest value.
        sql = (
            f"select {_FORM.format(value)} as form, count(*), min({value}){key_columns} from {ident(table)}"
            " group by form having form is not null order by 2 desc, 1"
        )
        return [
            TimeFormCount(
                form=str(form), rows=int(str(rows)), example=smallest, key=dict(zip(key, values, strict=True))
            )
            for form, rows, smallest, *values in self._connection.fetch(sql)
        ]

    def newest_time_forms(self, table: str, column: str) -> Sequence[str]:
        definition = self._catalog.require_table(table)
        known = self._known.get(table)
        if known is None or known[0] is not definition:
            query = "select 1 from pragma_table_list where schema = 'main' and name = :table and (wr or type != 'table')"
            order = "" if self._connection.fetch(query, {"table": table}) else " order by _rowid_ desc"
            known = self._known[table] = definition, order, {}
        _, order, forms = known
        if (
            column not in forms or not self._connection.read_only
        ):  # an app does not change a form while a command plans
            value = self._catalog.quote_column(table, column, "")
            sql = (
                f"select distinct {_FORM.format('held')} as form from"
                f" (select {value} as held from {ident(table)}{order} limit {NEWEST_ROWS}) where form is not null"
            )
            forms[column] = [str(form) for (form,) in self._connection.fetch(sql)]
        return forms[column]


class SQLiteTimeRewriter(SQLiteTimes):
    """The part ``TimeRewriter``."""

    def __init__(self, db: SQLiteWriter) -> None:
        super().__init__(db)
        self._writer = db.connection

    def rewrite_times(self, table: str, column: str, form: str, convert: Callable[[object], object]) -> int:
        # ``convert`` of sqlite-utils would use the function of the first column for all columns
        self._writer.database.register_function(convert, deterministic=True, replace=True, name="dbctl_time")
        name = self._catalog.quote_column(table, column, "")
        sql = (
            f"update {self._catalog.quote_table(table)} set {name} = dbctl_time({name})"
            f" where {_FORM.format(name)} <> :form"
        )
        return self._writer.execute_write(sql, {"form": form})
