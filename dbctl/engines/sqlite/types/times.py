"""Times in columns of SQLite, which have no type for them: which defaults write one, and which forms a column holds."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dbctl.engines.contract import HeldTimes
from dbctl.engines.sql import ident
from dbctl.engines.sqlite.dialect import SQLiteDialect

#: Defaults that write the present moment with its seconds, in lower case and without blanks; a local time is not among them.
_CLOCK = (
    r"current_timestamp|datetime\('now'(,'subsec(ond)?')?\)|strftime\('%y-%m-%dt?%h:%m:%[sf]z?','now'\)"
    r"|\(*(cast\()?\(*(strftime\('%s','now'\)|unixepoch\(('now'(,'subsec(ond)?')?)?\))\)*(asint(eger)?\))?\)*(\*1000)?\)*"
)
#: Rows whose form is the one that the app writes into a column at present.
NEWEST = 50

_DAY = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
#: The form of a value, NULL where it is no time or zero; as ``_milliseconds`` reads them. A day alone sorts with any text.
_FORM = f"""case
when typeof({{0}}) in ('integer', 'real') then
    case when {{0}} = 0 then null when {{0}} between -99999999999 and 99999999999 then 'epoch-s' else 'epoch-ms' end
when {{0}} glob '{_DAY}T*Z' then 'iso-ms'
when {{0}} glob '{_DAY}T*' then 'iso-without-z'
when {{0}} glob '{_DAY} *' then 'sqlite-time'
when length({{0}}) between 9 and 14 and {{0}} not glob '*[^0-9]*' then
    case when length({{0}}) < 12 then 'epoch-s' else 'epoch-ms' end
end"""


def form_of(value: str) -> str:
    """Return SQL for the form of a value; NULL where it is no time."""
    return _FORM.format(value)


class SQLiteTimes(SQLiteDialect):
    """HoldsTimeForms."""

    def clocks(self, table: str) -> Sequence[str]:
        defaults = "select name, dflt_value from pragma_table_xinfo(:table) where dflt_value is not null and hidden = 0"
        return [
            str(name)
            for name, default in self._fetch(defaults, {"table": table})
            if re.fullmatch(_CLOCK, "".join(str(default).lower().split()))
        ]

    def count_time_forms(self, table: str, column: str) -> Sequence[HeldTimes]:
        known = self._checked(table)
        key = [name for name, each in known.columns.items() if each.key]
        value = self._column(table, column, "")
        shown = "".join(f", {ident(name)}" for name in key)
        # The other columns are those of the row that holds the smallest value.
        sql = (
            f"select {_FORM.format(value)} as form, count(*), min({value}){shown} from {ident(table)}"  # noqa: S608 - names are checked and quoted
            " group by form having form is not null order by 2 desc, 1"
        )
        return [
            HeldTimes(
                form=str(form), rows=int(str(rows)), example=smallest, key=dict(zip(key, values, strict=True))
            )
            for form, rows, smallest, *values in self._fetch(sql, {})
        ]

    def newest_time_forms(self, table: str, column: str) -> Sequence[str]:
        known = "select 1 from pragma_table_list where schema = 'main' and name = :table and (wr or type != 'table')"
        order = "" if self._fetch(known, {"table": table}) else " order by _rowid_ desc"
        value = self._column(table, column, "")
        sql = (
            f"select distinct {_FORM.format('held')} as form from"  # noqa: S608 - names are checked and quoted
            f" (select {value} as held from {ident(table)}{order} limit {NEWEST}) where form is not null"
        )
        return [str(form) for (form,) in self._fetch(sql, {})]
