"""``data diff``: compare the rows of two databases, also of different engines, and show the values that differ."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from dbctl.errors.databases import TableMissingError
from dbctl.errors.usage import UsageError
from dbctl.extensions.transfer.compare import RowChange
from dbctl.extensions.transfer.comparison.differing_rows import RowComparison, RowDifference, RowValues
from dbctl.extensions.transfer.comparison.schemas import ComparedSides, Side
from dbctl.extensions.transfer.portable.contract import PortableTable
from dbctl.model import Closing, Row, Struct, format_count
from dbctl.services.app.secrets import find_secret_columns
from dbctl.services.app.validation import truncate

#: Characters of a row in a table.
MAX_ROW_CHARACTERS = 60


class TableDifference(Struct, frozen=True, kw_only=True):
    """The comparison of one table that both sides have."""

    table: str
    equal: bool
    rows_a: int
    rows_b: int
    only_a: int  #: rows that only the first side has
    only_b: int
    changed: int  #: rows with the same key and other values
    counted: bool  #: whether all differing rows are counted
    key: Sequence[str]  #: columns that identify a row; empty: whole rows are compared
    columns_only_a: Sequence[str]
    columns_only_b: Sequence[str]
    rows: Sequence[RowDifference]  #: the first ones

    def list_changes(self) -> Iterator[Row]:
        """Yield the rows of a table of changed values."""
        for row in self.rows:
            key = ", ".join(f"{name}={value}" for name, value in row.key.items())
            columns = list(row.a or row.b or ()) if row.change == "changed" else [""]
            for column in columns:
                a, b = (_describe_values(values, column) for values in (row.a, row.b))
                yield {
                    "table": self.table,
                    "key": key,
                    "change": row.change,
                    "column": column,
                    "a": a,
                    "b": b,
                }


class DataDiff(ComparedSides, frozen=True, kw_only=True):
    """Result of ``data diff``."""

    tables_only_a: Sequence[str]
    tables_only_b: Sequence[str]
    tables: Sequence[TableDifference]

    @property
    def closing(self) -> Closing:
        differing = sum(not table.equal for table in self.tables)
        missing = len(self.tables_only_a) + len(self.tables_only_b)
        details = [f"{differing} differ"] * bool(differing)
        details += [f"{format_count(missing, 'table')} only on one side"] * bool(missing)
        tables = format_count(len(self.tables), "table")
        return Closing(f"Compared {tables}", details or ["all equal"], is_timed=True)

    def summary(self) -> Row:
        summary: dict[str, object] = {"a": self.a, "b": self.b, "equal": self.equal}
        summary |= {
            "tables": len(self.tables),
            "rows": max(
                sum(table.rows_a for table in self.tables), sum(table.rows_b for table in self.tables)
            ),
        }
        differing = [table for table in self.tables if not table.equal]
        changes = [change for table in differing for change in table.list_changes()]
        columns = (
            "table",
            "rows_a",
            "rows_b",
            "only_a",
            "only_b",
            "changed",
            "columns_only_a",
            "columns_only_b",
        )
        sections: dict[str, object] = {
            "tables_only_a": self.tables_only_a,
            "tables_only_b": self.tables_only_b,
            "differing tables": [
                {
                    name: getattr(table, name)
                    for name in columns
                    if any(getattr(other, name) for other in differing)
                }
                for table in differing
            ],
            "differing rows": changes,
        }
        return summary | {name: section for name, section in sections.items() if section}


class DataComparison:
    """The comparison of two open databases for a report."""

    def __init__(
        self, first: Side, second: Side, *, tables: Sequence[str], limit: int, secrets: bool
    ) -> None:
        """Set the tables, none: all; the number of rows of each table and change in the report; and whether it has secrets."""
        self._sides, self._requested = (first, second), tables
        self._limit, self._shows_secrets = limit, secrets
        self._comparison = RowComparison(first.db, second.db)

    def run(self) -> DataDiff:
        """Compare the rows of the tables that both sides have, each side in one snapshot.

        Raises:
            TableMissingError: neither side has a requested table.
            UsageError: it is a view.
            NotSupportedError: an engine has no SQL.
        """
        left, right = self._comparison.tables
        names, pairs = self._select_tables(), self._comparison.pairs
        with self._comparison.snapshots():
            tables = [self._compare_table(name) for name in names if name in pairs]
        # without a common column, two tables have only their name in common
        only_a, only_b = (
            [name for name in names if name in tables_of_side and name not in pairs]
            for tables_of_side in (left, right)
        )
        return DataDiff(
            a=self._sides[0].name,
            b=self._sides[1].name,
            equal=not (only_a or only_b) and all(table.equal for table in tables),
            tables_only_a=only_a,
            tables_only_b=only_b,
            tables=tables,
        )

    def _select_tables(self) -> Sequence[str]:
        left, right = self._comparison.tables
        known = sorted(left.keys() | right.keys())
        for name in self._requested:
            if name in known:
                continue
            if any(name in side.db.tables() for side in self._sides):
                raise UsageError(detail=f"{name} is a view or a virtual table; only tables are compared")
            target = " and ".join(side.name for side in self._sides)
            raise TableMissingError(name=name, target=target, candidates=known)
        return sorted(set(self._requested)) or known

    def _compare_table(self, name: str) -> TableDifference:
        left, right = (tables[name] for tables in self._comparison.tables)
        only_a, only_b = (_list_missing_columns(*sides) for sides in ((left, right), (right, left)))
        differing = self._comparison.find_differences(name, self._limit)
        comparison, differences = differing.comparison, differing.differences
        hidden = self._find_hidden_columns(name)
        values = RowValues(self._comparison.sources[0], differing.table, hidden)
        order: Sequence[RowChange] = ("changed", "only a", "only b")
        rows = sorted(
            self._comparison.read_rows(differing),
            key=lambda row: (order.index(row[0]), values.sort_key(row[1])),
        )
        return TableDifference(
            table=name,
            equal=comparison.is_equal and not (only_a or only_b),
            rows_a=comparison.source.rows,
            rows_b=comparison.destination.rows,
            only_a=differences.counts["only a"],
            only_b=differences.counts["only b"],
            changed=differences.counts["changed"],
            counted=differences.is_complete,
            key=[column.name for column in differing.table.key],
            columns_only_a=only_a,
            columns_only_b=only_b,
            rows=[values.create_difference(*row) for row in rows],
        )

    def _find_hidden_columns(self, table: str) -> Collection[str]:
        """Return the columns that are secret in one of the databases."""
        if self._shows_secrets:
            return ()
        return {
            column
            for side in self._sides
            for column in find_secret_columns(side.app, side.database, side.db, [table]).get(table, ())
        }


def _list_missing_columns(table: PortableTable, other: PortableTable) -> Sequence[str]:
    """Return the columns that ``other`` lacks."""
    names = {column.name for column in other.columns}
    return [column.name for column in table.columns if column.name not in names]


def _describe_values(values: Row | None, column: str) -> str:
    """Return the value of a column, or those of all columns without one, for a table."""
    if values is None:
        return ""
    if column:
        return _describe_value(values.get(column))
    return truncate(
        ", ".join(f"{name}={_describe_value(value)}" for name, value in values.items()), MAX_ROW_CHARACTERS
    )


def _describe_value(value: object) -> str:
    return "NULL" if value is None else str(value)
