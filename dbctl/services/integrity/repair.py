"""Repair rows that duplicate rows of another database; list missing rows, which only the app can create."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from dbctl.engines.contract import Condition, Not, Readable, Where, Writable
from dbctl.errors import UsageError
from dbctl.model import ChangeResult, Plan, Row, format_count
from dbctl.profiles.model import CrossLink
from dbctl.services.app import App, Change, LiveTable, PreparedChange, find_column, truncate
from dbctl.services.integrity.duplicated_columns import Comparison, DuplicatedColumns

#: Keys in one condition.
BATCH = 2_000
#: Keys of missing rows in a result.
MAX_LISTED = 10_000


class RepairResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``integrity repair``."""

    renamed: int  #: rows that had a former key of the other database
    repaired: int  #: values that differed from the original values
    deleted: int  #: rows without an original, on request
    missing: int  #: rows of the other database without a duplicate, which only the app can create
    keys: Sequence[object] = ()  #: of missing rows, the first ten thousand
    rewritten: int = 0  #: times that got the form of the profile

    @property
    def has_one_time_output(self) -> bool:
        return bool(self.missing)

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return bool(self.renamed or self.repaired or self.deleted or self.rewritten)

    def summary(self) -> Row:
        row: Row = {field: getattr(self, field) for field in ("renamed", "repaired", "deleted", "missing")}
        if self.rewritten:
            row = {**row, "rewritten": self.rewritten}
        return {**row, "keys": self.keys} if self.keys else row


def repair(app: App, *, delete_orphans: bool = False) -> Change[RepairResult]:
    """Update rows that duplicate rows of another database.

    Args:
        app: the app.
        delete_orphans: whether to delete rows without an original; they are valid if originals exist in other places.

    Raises:
        FeatureMissingError: the app has no such rows.
        UsageError: several databases have such rows, and none is selected.
    """
    links = [link for link in app.profile.link if link.repeats or link.renamed_from]
    app.require_section(links, "duplicated columns")
    names = list(dict.fromkeys(link.database for link in links if app.only in ("", link.database)))
    if len(names) != 1:
        databases = ", ".join(dict.fromkeys(link.database for link in links))
        raise UsageError(detail=f"several databases have duplicated rows; select one with --db: {databases}")

    def draft(db: Readable) -> PreparedChange[RepairResult]:
        work = _Repair(
            app, db, [link for link in links if link.database == names[0]], delete_orphans=delete_orphans
        )
        plan = Plan(
            title="Repair duplicated rows",
            target=db.target,
            steps=work.list_steps(),
            rows=work.count_rows(),
            destructive=bool(work.to_delete),
        )
        return PreparedChange(plan, work.apply)

    return Change(app, names[0], "integrity repair", draft)


class _Repair:
    """The changes of the rows of one database."""

    def __init__(self, app: App, db: Readable, links: Sequence[CrossLink], *, delete_orphans: bool) -> None:
        self._app, self._db = app, db
        #: table, column, old value, new value, number of rows
        self._renamed: list[tuple[str, str, object, object, int]] = []
        #: by table, key column and column: the keys of the rows by new value; and the number of rows
        self._changes: dict[tuple[str, str, str], dict[object, list[object]]] = {}
        self._change_counts: dict[tuple[str, str, str], int] = {}
        #: by table and key column: keys of the rows
        self.to_delete: dict[tuple[str, str], list[object]] = {}
        self._delete_counts: dict[tuple[str, str], int] = {}
        self._missing, self._missing_keys = 0, list[object]()
        links = [link for link in links if link.table in db.tables() or not link.optional]
        for link in links:
            if link.renamed_from:
                self._find_renamed(link)
        for link in links:
            if link.repeats or link.every:
                self._find_differences(link, delete_orphans=delete_orphans)

    # Comparison --------------------------------------------------------------------------------------------

    def _find_renamed(self, link: CrossLink) -> None:
        other_db = self._app.reader(link.to)
        table, _, name = link.renamed_from.rpartition(".")
        former_column, key = (
            find_column(other_db.tables().get(table), name),
            link.targets[0].rpartition(".")[2],
        )
        if former_column is None:
            return
        column = LiveTable(self._app.profile, self._db, link.table, link.name).column(link.column)
        rows = other_db.select(table, [former_column, key], [Condition(former_column, "!=", None)])
        new_values = {row[0]: row[1] for row in rows}
        existing = {
            key_value
            for (key_value,) in other_db.select(table, [key], [Condition(key, "in", list(new_values))])
        }
        for old, row_count in self._db.count_by(link.table, column).items():
            if old in new_values and old not in existing:
                self._renamed.append((link.table, column, old, new_values[old], row_count))

    def _find_differences(self, link: CrossLink, *, delete_orphans: bool) -> None:
        duplicated = DuplicatedColumns(self._app, link.database, link)
        comparison = duplicated.compare(keep_all=True)
        columns = {
            name: other_column
            for name, other_column in duplicated.columns.items()
            if name not in link.derived
        }
        keys = {
            key
            for name in columns
            if name in comparison.differing
            for key in comparison.differing[name].examples
        }
        if keys:
            self._compare_values(duplicated, columns, list(keys))
        if link.every:
            self._missing += comparison.missing.count
            self._missing_keys += comparison.missing.examples[: MAX_LISTED - len(self._missing_keys)]
        if delete_orphans:
            self._find_orphans(duplicated, comparison)

    def _compare_values(
        self, duplicated: DuplicatedColumns, columns: dict[str, str], keys: Sequence[object]
    ) -> None:
        renamed = {(table, column): set[object]() for table, column, *_ in self._renamed}
        for table, column, old, _, _ in self._renamed:
            renamed[table, column].add(old)
        table = duplicated.link.table
        for batch in _split(keys):
            expected = {
                key: values
                for key, *values in duplicated.other_db.select(
                    duplicated.other_table,
                    [duplicated.other_key, *columns.values()],
                    [Condition(duplicated.other_key, "in", batch)],
                )
            }
            for key, *values in self._db.select(
                table, [duplicated.key, *columns], [Condition(duplicated.key, "in", batch)]
            ):
                for column, actual, expected_value in zip(
                    columns, values, expected.get(key, values), strict=True
                ):
                    if actual == expected_value or actual in renamed.get((table, column), ()):
                        continue
                    target = (table, duplicated.key, column)
                    row_keys = self._changes.setdefault(target, defaultdict(list))[expected_value]
                    if key not in row_keys[-1:]:
                        row_keys.append(key)
                    self._change_counts[target] = self._change_counts.get(target, 0) + 1

    def _find_orphans(self, duplicated: DuplicatedColumns, comparison: Comparison) -> None:
        values = list(dict.fromkeys([*comparison.unmatched.examples, *comparison.placeholders.examples]))
        if values:
            target = (duplicated.link.table, duplicated.key)
            self.to_delete[target] = values
            self._delete_counts[target] = comparison.unmatched_rows + comparison.placeholders.count

    # Plan and changes --------------------------------------------------------------------------------------

    def list_steps(self) -> list[str]:
        """Return the steps of the plan."""
        steps = [
            f"change {column} of {format_count(row_count, 'row')} of {table} from {truncate(str(old))} to {truncate(str(new))}"
            for table, column, old, new, row_count in self._renamed
        ]
        steps += [
            f"change {column} of {format_count(row_count, 'row')} of {table} to the original values"
            for (table, _, column), row_count in self._change_counts.items()
        ]
        return steps + [
            f"delete {format_count(row_count, 'row')} of {table} without an original"
            for (table, _), row_count in self._delete_counts.items()
        ]

    def count_rows(self) -> dict[str, int]:
        """Return the number of changed rows by table."""
        totals: dict[str, int] = {}
        counts = [(table, row_count) for table, *_, row_count in self._renamed]
        counts += [
            (table, row_count)
            for (table, *_), row_count in [*self._change_counts.items(), *self._delete_counts.items()]
        ]
        for table, row_count in counts:
            totals[table] = totals.get(table, 0) + row_count
        return totals

    def apply(self, db: Writable) -> RepairResult:
        renamed = sum(
            db.update(table, {column: new}, [Condition(column, "=", old)])
            for table, column, old, new, _ in self._renamed
        )
        repaired = sum(
            db.update(
                table, {column: value}, [Condition(key, "in", batch), Not(Condition(column, "=", value))]
            )
            for (table, key, column), keys_by_value in self._changes.items()
            for value, keys in keys_by_value.items()
            for batch in _split(keys)
        )
        deleted = sum(
            db.delete(table, where)
            for (table, key), values in self.to_delete.items()
            for where in _build_conditions(key, values)
        )
        return RepairResult(
            renamed=renamed,
            repaired=repaired,
            deleted=deleted,
            missing=self._missing,
            keys=self._missing_keys,
        )


def _split(values: Sequence[object]) -> Iterator[list[object]]:
    for start in range(0, len(values), BATCH):
        yield list(values[start : start + BATCH])


def _build_conditions(key: str, values: Sequence[object]) -> Iterator[list[Where]]:
    """Yield conditions on the rows with these keys, one per batch."""
    if None in values:
        yield [Condition(key, "=", None)]
    for batch in _split([value for value in values if value is not None]):
        yield [Condition(key, "in", batch)]
