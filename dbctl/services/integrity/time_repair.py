"""``integrity repair --times``: columns that hold times in several forms get the one that the profile declares."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.engines.contract import HeldTimes, Readable, RewritesTimes, Writable
from dbctl.errors import TableMissingError, TimesAmbiguousError, UsageError, ValueInvalidError
from dbctl.model import Plan, counted
from dbctl.profiles import TIMES, TimeCodec, read_time
from dbctl.services.app import App, Change, Draft, Live, exactly
from dbctl.services.integrity.repair import Repaired
from dbctl.services.integrity.stored_violations import FORMS, mixed_columns

#: The form of text that stands for another moment in each zone.
AMBIGUOUS = "iso-without-z"
#: Forms that hold no parts of a second.
WHOLE_SECONDS: Sequence[TimeCodec] = ("sqlite-time", "epoch-s")


def repair_times(app: App, *, table: str = "") -> Change[Repaired]:
    """Rewrite the times of columns that hold several forms in the profile's, all in one transaction.

    Args:
        app: the app.
        table: the one table that is repaired; empty: all.

    Raises:
        UsageError: the app has several databases, and none is named.
    """
    names = [app.only] if app.only else list(app.configured.databases)
    if len(names) != 1:
        raise UsageError(detail=f"name the database whose times are repaired with --db: {', '.join(names)}")

    def draft(db: Readable) -> Draft[Repaired]:
        if table and table not in db.tables():
            raise TableMissingError(name=table, target=db.target, near="")
        work = _Work(app, db, list(mixed_columns(app, names[0], db, table)))
        plan = Plan(
            title="Rewrite times in one form",
            target=db.target,
            steps=work.steps(),
            rows=work.rows(),
            destructive=False,
        )
        return Draft(plan, work.carry_out)

    return Change(app, names[0], "integrity repair", draft)


class _Work:
    """What is to be rewritten in one database."""

    def __init__(
        self, app: App, db: Readable, mixed: Sequence[tuple[Live, str, Sequence[HeldTimes]]]
    ) -> None:
        self._form: TimeCodec = app.profile.time
        self._columns: list[tuple[str, str, int]] = []  #: table, column, and how many rows
        for live, column, held in mixed:
            self._refuse_ambiguous(db, live, column, held)
            rows = sum(times.rows for times in held if times.form != self._form)
            self._columns.append((live.name, column, rows))

    @staticmethod
    def _refuse_ambiguous(db: Readable, live: Live, column: str, held: Sequence[HeldTimes]) -> None:
        for times in held:
            if times.form == AMBIGUOUS:
                key = ", ".join(map(str, times.key.values()))
                raise TimesAmbiguousError(
                    table=live.name,
                    column=column,
                    target=db.target,
                    rows=counted(times.rows, "time"),
                    example=f" (row {key})" if key else "",
                )

    def steps(self) -> list[str]:
        loss = ", which drops parts of a second" if self._form in WHOLE_SECONDS else ""
        return [
            f"rewrite {column} of {counted(rows, 'row')} of {table} as {FORMS[self._form]}{loss}"
            for table, column, rows in self._columns
        ]

    def rows(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for table, _, rows in self._columns:
            found[table] = found.get(table, 0) + rows
        return found

    def carry_out(self, db: Writable) -> Repaired:
        """Rewrite them, and look whether each column holds one form.

        Raises:
            ValueInvalidError: a time cannot be read, or a trigger of the app wrote another form.
        """
        if not self._columns:
            return Repaired(renamed=0, mended=0, deleted=0, wanting=0)
        if not isinstance(db, RewritesTimes):
            raise TypeError(f"{db.target} has a type for times")
        for table, column, rows in self._columns:
            exactly(db.rewrite_times(table, column, self._form, self._rewritten), rows, db)
        for table, column, _ in self._columns:
            for times in db.count_time_forms(table, column):
                if times.form != self._form:
                    key = ", ".join(map(str, times.key.values()))
                    raise ValueInvalidError(
                        what=f"{table}.{column}", value=key or "a row", reason="its time cannot be rewritten"
                    )
        return Repaired(
            renamed=0, mended=0, deleted=0, wanting=0, rewritten=sum(rows for *_, rows in self._columns)
        )

    def _rewritten(self, stored: object) -> object:
        read = read_time(int(stored) if isinstance(stored, str) and stored.isdigit() else stored)
        return stored if read is None else TIMES[self._form](read)
