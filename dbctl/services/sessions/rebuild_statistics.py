"""Statistics that the app keeps of its users, counted anew from what they are about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbctl.engines.contract import Merge, Readable, Writable
from dbctl.engines.sql import Figures
from dbctl.model import Done, Plan, Row, Value, counted, now
from dbctl.profiles import TIMES
from dbctl.profiles.model import Rebuild
from dbctl.services.app import App, Change, Draft, Live, UserTable, audit, database_of, exactly


class TableRebuilt(Value, frozen=True, kw_only=True):
    """What became of one table of figures."""

    table: str
    added: int  #: rows that were missing
    corrected: int  #: rows whose figures were too small
    lowered: int  #: rows in which a figure was larger than what there is to count

    @property
    def changed(self) -> int:
        """All of them."""
        return self.added + self.corrected + self.lowered


class StatisticsRebuilt(Done, frozen=True, kw_only=True):
    """Answer of ``sessions rebuild-stats``."""

    tables: Sequence[TableRebuilt]

    @property
    def changed(self) -> int:
        """Rows over all tables."""
        return sum(one.changed for one in self.tables)

    def brief(self) -> Sequence[Row]:
        return [{name: getattr(one, name) for name in TableRebuilt.__struct_fields__} for one in self.tables]


class Rebuilding(Change[StatisticsRebuilt]):
    """The statistics counted anew, of one user or of all, in one transaction; what agrees already is not touched."""

    def __init__(self, app: App, *, login: str = "") -> None:
        """Say whose.

        Raises:
            AbilityMissingError: the profile does not say how they are counted.
        """
        self._app, self._login = app, login
        self._told = app.ability(app.profile.rebuild, "statistics")
        self._found: Sequence[TableRebuilt] = ()
        super().__init__(app, database_of(app), "sessions rebuild-stats", self._draft)

    def apply(self, seen: str | None = None) -> StatisticsRebuilt:
        """Do it, as ``Change.apply`` does; where there is nothing to do, nobody is kept from writing while it is counted."""
        if self.plan().empty:
            return StatisticsRebuilt(tables=self._found)
        return super().apply(seen)

    def _draft(self, db: Readable) -> Draft[StatisticsRebuilt]:
        user = UserTable(self._app, db).one(self._login) if self._login else None
        given: dict[str, object] = {"only": user.id} if user else {}
        each = [(one, figures_of(self._app, db, one, only=bool(user))) for one in self._told]
        looked = [(one, figures) for one, figures in each if figures]
        found = self._found = [_looked_at(db, figures, given) for _, figures in looked]

        def work(db: Writable) -> StatisticsRebuilt:
            given["now"] = TIMES[self._app.profile.time](now())
            for (one, figures), result in zip(looked, found, strict=True):
                if result.changed:
                    select = figures.corrected(len(one.touched))
                    done = db.merge(figures.table, select, given, key=one.key, columns=_merged(one))
                    exactly(done, result.changed, db)
            rows = {one.table: one.changed for one in found if one.changed}
            if rows:
                whose = user.id if user else "all"
                audit.record(self._app, db, "sessions.rebuild-stats", "statistics", whose, {"rows": rows})
            return StatisticsRebuilt(tables=found)

        return Draft(_plan(db, found, user.login if user else ""), work)


def figures_of(app: App, db: Readable, told: Rebuild, *, only: bool = False) -> Figures | None:
    """Return a section as the engines' SQL knows it; None where the deployment does without the table, as it may.

    Args:
        app: the app.
        db: the database of its users.
        told: the section.
        only: whether one user alone is meant.

    Raises:
        SchemaLacksError: the live schema lacks what it names.
    """
    table = told.table.removesuffix("?")
    if table != told.table and table not in db.tables():
        return None
    live = Live(app.profile, db, table, told.name)
    key, figures, further = (
        [live.get(name) for name in one] for one in (told.key, told.figures, told.further)
    )
    return Figures(
        table=table,
        key=key,
        figures=figures,
        further=further,
        select=told.select,
        only=told.user if only else "",
    )


def _merged(told: Rebuild) -> dict[str, Merge]:
    becomes: dict[str, Merge] = dict.fromkeys(told.figures, "replace")
    return becomes | dict.fromkeys(told.further, "keep") | dict.fromkeys(told.touched, "replace")


def _looked_at(db: Readable, figures: Figures, given: dict[str, object]) -> TableRebuilt:
    ((added, corrected, lowered),) = db.query(figures.summary(), given)
    return TableRebuilt(
        table=figures.table, added=int(str(added)), corrected=int(str(corrected)), lowered=int(str(lowered))
    )


def _plan(db: Readable, found: Sequence[TableRebuilt], login: str) -> Plan:
    return Plan(
        title=f"Count the statistics of {login or 'all users'} anew",
        target=db.target,
        steps=[step for one in found for step in _steps(one)],
        rows={one.table: one.changed for one in found if one.changed},
        destructive=any(one.lowered for one in found),
    )


def _steps(one: TableRebuilt) -> Iterator[str]:
    if one.added:
        yield f"add {counted(one.added, 'row')} to {one.table}"
    if one.corrected:
        yield f"correct {counted(one.corrected, 'row')} of {one.table}"
    if one.lowered:
        yield f"lower {counted(one.lowered, 'row')} of {one.table}, where less is there to count than is kept"
