"""Repair rows that duplicate rows of another database; list missing rows, which only the app can create; convert times of mixed columns."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from dbctl.engines.contract.database import Condition, Not, Readable, Where, Writable, require_supported
from dbctl.engines.contract.streaming import TimeFormCount
from dbctl.errors.base import Remedy
from dbctl.errors.databases import TimesAmbiguousError
from dbctl.errors.usage import UsageError, ValueInvalidError
from dbctl.model import ChangeResult, Effect, Plan, Row, Struct, TimeForm, format_count, split_batches
from dbctl.profiles.codecs import TIMES, read_time
from dbctl.profiles.model.integrity import CrossLink
from dbctl.services.app.app import App
from dbctl.services.app.change import Change, PreparedChange, require_row_count
from dbctl.services.app.live_table import LiveTable, find_column
from dbctl.services.app.results import missing_table_error
from dbctl.services.app.row_writes import write_rows
from dbctl.services.app.validation import truncate
from dbctl.services.checks.cross_database import Comparison, DuplicatedColumns
from dbctl.services.checks.stored_rows import FORMS, list_mixed_columns
from dbctl.services.deletion.cascade import add_dependent_rows

#: Keys in one condition.
BATCH = 2_000
#: Keys of missing rows in a result.
MAX_LISTED = 10_000


_LOST_KEYS = Remedy("The keys of the missing rows are lost. List them with: `integrity cross-check`")
#: Text without time zone, whose meaning depends on the zone of the writer.
AMBIGUOUS_FORM = "iso-without-z"
#: Forms without fractions of a second.
WHOLE_SECONDS: Sequence[TimeForm] = ("sqlite-time", "epoch-s")


class RepairResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``integrity repair``."""

    renamed: int  #: rows that had a former key of the other database
    repaired: int  #: values that differed from the original values
    deleted: int  #: rows without an original, on request
    missing: int  #: rows of the other database without a duplicate, which only the app can create
    keys: Sequence[object] = ()  #: of missing rows, the first ten thousand
    rewritten: int = 0  #: times that got the form of the profile

    @property
    def effect(self) -> Effect | None:
        counts = {
            "renamed": self.renamed,
            "repaired": self.repaired,
            "deleted": self.deleted,
            "rewritten": self.rewritten,
        }
        if not any(counts.values()):
            return None
        counts["rows only the app can create"] = self.missing
        return Effect("repaired", "database", counts=counts)

    @property
    def lost_output(self) -> Callable[[], str] | None:
        return _LOST_KEYS.write if self.missing else None

    def summary(self) -> Row:
        row: Row = {field: getattr(self, field) for field in ("renamed", "repaired", "deleted", "missing")}
        if self.rewritten:
            row = {**row, "rewritten": self.rewritten}
        return {**row, "keys": self.keys} if self.keys else row


def repair(app: App, *, delete_orphans: bool = False) -> Change[RepairResult]:
    """Update rows that duplicate rows of another database.

    ``delete_orphans`` deletes rows without an original; they are valid if originals exist in other places.

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
        collected = _collect_fixes(
            app, db, [link for link in links if link.database == names[0]], delete_orphans=delete_orphans
        )
        fixes = collected.fixes
        plan = Plan(
            title="Repair duplicated rows",
            target=db.target,
            steps=[fix.step for fix in fixes],
            rows=add_up((fix.table, fix.row_count) for fix in fixes),
            destructive=any(isinstance(fix, RowDelete) for fix in fixes),
        )
        deleted: dict[str, list[Where]] = {}
        for fix in collected.deletes:
            deleted.setdefault(fix.table, []).extend(fix.conditions)
        return PreparedChange(add_dependent_rows(plan, db, deleted), collected.apply)

    return Change(app, names[0], draft)


# Fixes -----------------------------------------------------------------------------------------------------------


class KeyRename(Struct, frozen=True, kw_only=True):
    """Rows with a former key of the other database."""

    table: str
    column: str
    old: object
    new: object
    row_count: int

    @property
    def step(self) -> str:
        rows = format_count(self.row_count, "row")
        return f"change {self.column} of {rows} of {self.table} from {truncate(str(self.old))} to {truncate(str(self.new))}"

    def apply(self, db: Writable) -> int:
        """Rename the key; return the number of changed rows."""
        return write_rows(db, self.table, [Condition(self.column, "=", self.old)], {self.column: self.new})


class ColumnFix(Struct, frozen=True, kw_only=True):
    """Values of a column that differ from the original values."""

    table: str
    key: str  #: the column with the key of the rows
    column: str
    keys_by_value: Mapping[object, Sequence[object]]  #: the keys of the rows by original value
    row_count: int

    @property
    def step(self) -> str:
        return f"change {self.column} of {format_count(self.row_count, 'row')} of {self.table} to the original values"

    def apply(self, db: Writable) -> int:
        """Write the original values; return the number of changed rows."""
        return sum(
            write_rows(
                db,
                self.table,
                [Condition(self.key, "in", batch), Not(Condition(self.column, "=", value))],
                {self.column: value},
            )
            for value, keys in self.keys_by_value.items()
            for batch in split_batches(keys, BATCH)
        )


class RowDelete(Struct, frozen=True, kw_only=True):
    """Rows without an original."""

    table: str
    key: str  #: the column with the key of the rows
    keys: Sequence[object]  #: may contain None
    row_count: int

    @property
    def step(self) -> str:
        return f"delete {format_count(self.row_count, 'row')} of {self.table} without an original"

    @property
    def conditions(self) -> list[Where]:
        """The conditions of the rows, each of which meets one."""
        conditions: list[Where] = [Condition(self.key, "=", None)] if None in self.keys else []
        batches = split_batches((key for key in self.keys if key is not None), BATCH)
        return conditions + [Condition(self.key, "in", batch) for batch in batches]

    def apply(self, db: Writable) -> int:
        """Delete the rows; return their number."""
        return sum(write_rows(db, self.table, [condition]) for condition in self.conditions)


class _Fixes(Struct, frozen=True, kw_only=True):
    """The fixes of one database, in the order of their steps, and the rows that only the app can create."""

    renames: Sequence[KeyRename]
    columns: Sequence[ColumnFix]
    deletes: Sequence[RowDelete]
    missing: int
    missing_keys: Sequence[object]  #: the first ten thousand

    @property
    def fixes(self) -> Sequence[KeyRename | ColumnFix | RowDelete]:
        return [*self.renames, *self.columns, *self.deletes]

    def apply(self, db: Writable) -> RepairResult:
        return RepairResult(
            renamed=sum(fix.apply(db) for fix in self.renames),
            repaired=sum(fix.apply(db) for fix in self.columns),
            deleted=sum(fix.apply(db) for fix in self.deletes),
            missing=self.missing,
            keys=self.missing_keys,
        )


def add_up(counts: Iterable[tuple[str, int]]) -> Mapping[str, int]:
    """Return the sum of the numbers of rows of each table."""
    totals = Counter[str]()
    for table, rows in counts:
        totals[table] += rows
    return totals


# Comparison ------------------------------------------------------------------------------------------------------


def _collect_fixes(app: App, db: Readable, links: Sequence[CrossLink], *, delete_orphans: bool) -> _Fixes:
    links = [link for link in links if link.table in db.tables() or not link.optional]
    renames = [rename for link in links if link.renamed_from for rename in _find_renames(app, db, link)]
    columns, deletes = list[ColumnFix](), list[RowDelete]()
    missing, missing_keys = 0, list[object]()
    for link in links:
        if not (link.repeats or link.every):
            continue
        duplicated = DuplicatedColumns(app, link.database, link)
        comparison = duplicated.compare(keep_all=True)
        columns += _find_column_fixes(db, duplicated, comparison, renames)
        if link.every:
            missing += comparison.missing.count
            missing_keys += comparison.missing.examples[: MAX_LISTED - len(missing_keys)]
        if delete_orphans and (fix := _find_orphans(duplicated, comparison)):
            deletes.append(fix)
    return _Fixes(
        renames=renames, columns=columns, deletes=deletes, missing=missing, missing_keys=missing_keys
    )


def _find_renames(app: App, db: Readable, link: CrossLink) -> Iterator[KeyRename]:
    other_db = app.reader(link.to)
    table, _, name = link.renamed_from.rpartition(".")
    key = link.targets[0].rpartition(".")[2]
    former_column = find_column(other_db.tables().get(table), name)
    if former_column is None:
        return
    column = LiveTable(app.profile, db, link.table, link.name).column(link.column)
    rows = other_db.select(table, [former_column, key], [Condition(former_column, "!=", None)])
    new_values = {row[0]: row[1] for row in rows}
    existing = {
        key_value for (key_value,) in other_db.select(table, [key], [Condition(key, "in", list(new_values))])
    }
    for old, row_count in db.count_by(link.table, column).items():
        if old in new_values and old not in existing:
            yield KeyRename(
                table=link.table, column=column, old=old, new=new_values[old], row_count=row_count
            )


def _find_column_fixes(
    db: Readable, duplicated: DuplicatedColumns, comparison: Comparison, renames: Sequence[KeyRename]
) -> Iterator[ColumnFix]:
    """Yield the columns with values that differ from the originals, except keys that are renamed anyway."""
    table, derived = duplicated.link.table, duplicated.link.derived
    columns = {name: other for name, other in duplicated.columns.items() if name not in derived}
    differing = [comparison.differing[name].examples for name in columns if name in comparison.differing]
    keys = list({key for examples in differing for key in examples})
    renamed = {
        column: {rename.old for rename in renames if (rename.table, rename.column) == (table, column)}
        for column in columns
    }
    keys_by_value = {column: defaultdict[object, list[object]](list) for column in columns}
    row_counts = dict.fromkeys(columns, 0)
    for batch in split_batches(keys, BATCH):
        originals = duplicated.other_db.select(
            duplicated.other_table,
            [duplicated.other_key, *columns.values()],
            [Condition(duplicated.other_key, "in", batch)],
        )
        expected = {key: values for key, *values in originals}
        rows = db.select(table, [duplicated.key, *columns], [Condition(duplicated.key, "in", batch)])
        for key, *values in rows:
            for column, actual, value in zip(columns, values, expected.get(key, values), strict=True):
                if actual == value or actual in renamed[column]:
                    continue
                row_keys = keys_by_value[column][value]
                if key not in row_keys[-1:]:
                    row_keys.append(key)
                row_counts[column] += 1
    for column, row_count in row_counts.items():
        if row_count:
            yield ColumnFix(
                table=table,
                key=duplicated.key,
                column=column,
                keys_by_value=keys_by_value[column],
                row_count=row_count,
            )


def _find_orphans(duplicated: DuplicatedColumns, comparison: Comparison) -> RowDelete | None:
    keys = list(dict.fromkeys([*comparison.unmatched.examples, *comparison.placeholders.examples]))
    if not keys:
        return None
    return RowDelete(
        table=duplicated.link.table,
        key=duplicated.key,
        keys=keys,
        row_count=comparison.unmatched_rows + comparison.placeholders.count,
    )


def repair_times(app: App, *, table: str = "") -> Change[RepairResult]:
    """Convert the times of columns with several forms, or only those of ``table``, to the form of the profile, in one transaction.

    Raises:
        UsageError: the app has several databases, and none is selected.
    """
    names = [app.only] if app.only else list(app.configured.databases)
    if len(names) != 1:
        raise UsageError(detail=f"several databases; select one with --db: {', '.join(names)}")

    def draft(db: Readable) -> PreparedChange[RepairResult]:
        if table and table not in db.tables():
            raise missing_table_error(app, db, table)
        work = _TimeRepair(app, db, list(list_mixed_columns(app, names[0], db, table)))
        plan = Plan(
            title="Rewrite times in one form",
            target=db.target,
            steps=work.list_steps(),
            rows=work.count_rows(),
            destructive=False,
        )
        return PreparedChange(plan, work.apply)

    return Change(app, names[0], draft)


class _TimeRepair:
    """The changes of the times of one database."""

    def __init__(
        self, app: App, db: Readable, mixed: Sequence[tuple[LiveTable, str, Sequence[TimeFormCount]]]
    ) -> None:
        self._form: TimeForm = app.profile.time
        self._columns: list[tuple[str, str, int]] = []  #: table, column, number of rows
        for live_table, column, forms in mixed:
            self._refuse_ambiguous(db, live_table, column, forms)
            rows = sum(times.rows for times in forms if times.form != self._form)
            self._columns.append((live_table.name, column, rows))

    @staticmethod
    def _refuse_ambiguous(
        db: Readable, live_table: LiveTable, column: str, forms: Sequence[TimeFormCount]
    ) -> None:
        for times in forms:
            if times.form == AMBIGUOUS_FORM:
                key = ", ".join(map(str, times.key.values()))
                raise TimesAmbiguousError(
                    table=live_table.name,
                    column=column,
                    target=db.target,
                    rows=format_count(times.rows, "time"),
                    example=f" (row {key})" if key else "",
                )

    def list_steps(self) -> list[str]:
        loss = ", without fractions of a second" if self._form in WHOLE_SECONDS else ""
        return [
            f"rewrite {column} of {format_count(rows, 'row')} of {table} as {FORMS[self._form]}{loss}"
            for table, column, rows in self._columns
        ]

    def count_rows(self) -> Mapping[str, int]:
        return add_up((table, rows) for table, _, rows in self._columns)

    def apply(self, db: Writable) -> RepairResult:
        """Convert the times, and verify that each column has one form.

        Raises:
            ValueInvalidError: a time is not readable, or a trigger of the app wrote another form.
        """
        if not self._columns:
            return RepairResult(renamed=0, repaired=0, deleted=0, missing=0)
        hint = "Its engine has a native type for times."
        rewriter = require_supported(db, db.times, "rewriting times", hint)
        for table, column, rows in self._columns:
            require_row_count(rewriter.rewrite_times(table, column, self._form, self._rewrite), rows, db)
        for table, column, _ in self._columns:
            for times in rewriter.count_time_forms(table, column):
                if times.form != self._form:
                    key = ", ".join(map(str, times.key.values()))
                    raise ValueInvalidError(
                        name=f"{table}.{column}", value=key or "a row", reason="its time cannot be rewritten"
                    )
        return RepairResult(
            renamed=0, repaired=0, deleted=0, missing=0, rewritten=sum(rows for *_, rows in self._columns)
        )

    def _rewrite(self, stored: object) -> object:
        timestamp = read_time(stored)
        return stored if timestamp is None else TIMES[self._form](timestamp)
