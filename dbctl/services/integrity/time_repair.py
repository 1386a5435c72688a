"""``integrity repair --times``: convert times of mixed columns to the form of the profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.contract.database import Readable, Writable, require_supported
from dbctl.engines.contract.streaming import TimeFormCount
from dbctl.errors.databases import TimesAmbiguousError
from dbctl.errors.usage import UsageError, ValueInvalidError
from dbctl.model import Plan, TimeForm, format_count
from dbctl.profiles.codecs import TIMES, read_time
from dbctl.services.app.app import App
from dbctl.services.app.change import Change, PreparedChange, require_row_count
from dbctl.services.app.live_table import LiveTable
from dbctl.services.app.results import missing_table_error
from dbctl.services.checks.stored_rows import FORMS, list_mixed_columns
from dbctl.services.integrity.repair import RepairResult, add_up

#: Text without time zone, whose meaning depends on the zone of the writer.
AMBIGUOUS_FORM = "iso-without-z"
#: Forms without fractions of a second.
WHOLE_SECONDS: Sequence[TimeForm] = ("sqlite-time", "epoch-s")


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
