"""Rebuild the statistics of users from the rows that they count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbctl.engines.contract.database import Merge, MergeRule, Readable, Writable
from dbctl.engines.sql.checks import Recount
from dbctl.model import ChangeResult, Effect, Plan, Row, Struct, format_count, now
from dbctl.profiles.codecs import TIMES
from dbctl.profiles.model.cleanup import Rebuild
from dbctl.services.app import audit
from dbctl.services.app.app import App
from dbctl.services.app.change import Change, require_row_count
from dbctl.services.app.live_table import LiveTable
from dbctl.services.app.user_table import User, UserTable, users_database


class RebuiltTable(Struct, frozen=True, kw_only=True):
    """The changes of one table of statistics."""

    table: str
    added: int  #: missing rows
    corrected: int  #: rows with values that were too small
    lowered: int  #: rows with values that were too large

    @property
    def changed(self) -> int:
        """The number of changed rows."""
        return self.added + self.corrected + self.lowered


class RebuildResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``sessions rebuild-stats``."""

    is_timed = True

    tables: Sequence[RebuiltTable]

    @property
    def effect(self) -> Effect | None:
        return Effect("corrected", "row", count=self.changed, place="of statistics") if self.changed else None

    @property
    def changed(self) -> int:
        """The number of changed rows of all tables."""
        return sum(table.changed for table in self.tables)

    def summary(self) -> Sequence[Row]:
        return [
            {name: getattr(table, name) for name in RebuiltTable.__struct_fields__} for table in self.tables
        ]


class RebuildStatistics(Change[RebuildResult]):
    """Rebuild the statistics of one user or of all users in one transaction; correct rows are not written."""

    def __init__(self, app: App, *, login: str = "") -> None:
        """Select the users.

        Raises:
            FeatureMissingError: the profile has no section ``rebuild``.
        """
        self._app, self._login = app, login
        self._sections = app.require_section(app.profile.rebuild, "statistics")
        self._results: Sequence[RebuiltTable] = ()
        super().__init__(app, users_database(app), self._draft)

    def apply(self, confirmed: str | None = None) -> RebuildResult:
        """Apply the change; if nothing differs, the recount acquires no write lock."""
        if self.plan().is_empty:
            return RebuildResult(tables=self._results)
        return super().apply(confirmed)

    def _draft(self, db: Readable) -> _Rebuild:
        user = UserTable(self._app, db).find_by_login(self._login) if self._login else None
        prepared = _Rebuild(self._app, db, self._sections, user)
        self._results = prepared.results
        return prepared


class _Rebuild:
    """Merge the recounted values into the tables of statistics."""

    def __init__(self, app: App, db: Readable, sections: Sequence[Rebuild], user: User | None) -> None:
        self._app, self._user = app, user
        self._parameters: dict[str, object] = {"only": user.id} if user else {}
        recounts = [(section, create_recount(app, db, section, only=bool(user))) for section in sections]
        self._recounts = [(section, figures) for section, figures in recounts if figures]
        self.results = [_compare_recount(db, figures, self._parameters) for _, figures in self._recounts]
        self._rows = {result.table: result.changed for result in self.results if result.changed}
        self.plan = Plan(
            title=f"Rebuild the statistics of {user.login if user else 'all users'}",
            target=db.target,
            steps=[step for result in self.results for step in _plan_steps(result)],
            rows=self._rows,
            destructive=any(result.lowered for result in self.results),
        )

    def apply(self, db: Writable) -> RebuildResult:
        """Write the rows that differ, and record the change."""
        parameters = {**self._parameters, "now": TIMES[self._app.profile.time](now())}
        for (section, figures), result in zip(self._recounts, self.results, strict=True):
            if result.changed:
                select, rules = figures.corrected_rows_sql(len(section.touched)), _merge_rules(section)
                merge = Merge(
                    table=figures.table, select=select, parameters=parameters, key=section.key, columns=rules
                )
                changed = db.merge(merge)
                require_row_count(changed, result.changed, db)
        if self._rows:
            user_id = self._user.id if self._user else "all"
            details = {"rows": self._rows}
            audit.record(self._app, db, "sessions.rebuild-stats", "statistics", user_id, details)
        return RebuildResult(tables=self.results)


def create_recount(app: App, db: Readable, section: Rebuild, *, only: bool = False) -> Recount | None:
    """Return the recount of a section, for a single user with ``only``; None if its optional table does not exist.

    Raises:
        SchemaMismatchError: a column does not exist.
    """
    table = section.table.removesuffix("?")
    if table != section.table and table not in db.tables():
        return None
    live = LiveTable(app.profile, db, table, section.name)
    key, counters, extra_columns = (
        [live.column(name) for name in names] for names in (section.key, section.figures, section.further)
    )
    return Recount(
        table=table,
        key=key,
        counters=counters,
        extra_columns=extra_columns,
        select=section.select,
        filter_column=section.user if only else "",
    )


def _merge_rules(section: Rebuild) -> dict[str, MergeRule]:
    becomes: dict[str, MergeRule] = dict.fromkeys(section.figures, "replace")
    return becomes | dict.fromkeys(section.further, "keep") | dict.fromkeys(section.touched, "replace")


def _compare_recount(db: Readable, figures: Recount, parameters: dict[str, object]) -> RebuiltTable:
    ((added, corrected, lowered),) = db.query(figures.summary_sql(), parameters)
    return RebuiltTable(
        table=figures.table, added=int(str(added)), corrected=int(str(corrected)), lowered=int(str(lowered))
    )


def _plan_steps(result: RebuiltTable) -> Iterator[str]:
    if result.added:
        yield f"add {format_count(result.added, 'row')} to {result.table}"
    if result.corrected:
        yield f"correct {format_count(result.corrected, 'row')} of {result.table}"
    if result.lowered:
        yield f"lower {format_count(result.lowered, 'row')} of {result.table}, whose values are too large"
